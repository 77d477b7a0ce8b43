"""Finds weights that are already on this machine, and lists them."""

from __future__ import annotations

import glob
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from .cache import (
    CACHE_VARIABLE,
    LOCK_SUFFIX,
    OFFLINE_VARIABLE,
    PARTIAL_SUFFIX,
    STAMP_SUFFIX,
    cache_dir,
    hub_cache_dir,
    is_offline,
)
from .catalog import DEFAULT_NAMES, WeightsFile, sources_of
from .checksum import matches, recorded_sha256
from .errors import WeightsError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedFile:
    """Weights found on this machine.

    Attributes:
        path: where.
        size: in bytes.
        known_as: name in the catalogue, "owner/model/file" for a Hugging Face file, "" for others.
    """

    path: Path
    size: int
    known_as: str


def find_cached(file: WeightsFile, *, rehash: bool = False) -> Path | None:
    """Looks for a file in our cache folder.

    Args:
        file: what to look for.
        rehash: read the whole file even if it was verified before.

    Returns:
        Its path, or None when it is missing or does not have the expected SHA-256.

    Raises:
        WeightsError: it is there, but cannot be read.
    """
    path = cache_dir() / file.filename
    # Not Path.is_file, which raises below a folder that this user may not enter.
    if not os.path.isfile(path):
        return None
    if _is_genuine(path, file, rehash=rehash):
        return path
    logger.warning("%s is damaged or another version: its SHA-256 is not %s.", path, file.sha256)
    return None


def find_elsewhere(file: WeightsFile) -> Path | None:
    """Looks for a file where open_clip, OpenAI's CLIP and torch.hub keep theirs.

    Files without a published SHA-256 are not looked for: only their name would vouch for them.

    Args:
        file: what to look for.

    Returns:
        Its path, or None when no folder has it with the expected SHA-256.
    """
    if not file.sha256:
        return None
    for folder in other_folders():
        path = folder / file.filename
        try:
            if os.path.isfile(path) and _is_genuine(path, file):
                return path
        except WeightsError as error:
            logger.info("%s", error)
    return None


def other_folders() -> tuple[Path, ...]:
    """Folders of other programs that may have the same files, in the order of search."""
    # os.path leaves "~" alone for a user without a home folder, where pathlib raises.
    clip_cache = Path(os.path.expanduser("~/.cache/clip"))
    return clip_cache, Path(torch.hub.get_dir()).absolute() / "checkpoints"


def describe_search_path() -> list[str]:
    """Where weights are looked for, in order, one line each, for people to read."""
    folder = cache_dir()
    state = "exists" if os.path.isdir(folder) else "not there yet"
    origin = "from" if os.environ.get(CACHE_VARIABLE) else "to choose another, set"
    if is_offline():
        network = f"no download: {OFFLINE_VARIABLE} is set"
    else:
        network = f"download; {OFFLINE_VARIABLE}=1 forbids it"
    return [
        "the path given in MODEL.CLIP.WEIGHTS or MODEL.SAM.WEIGHTS",
        f"{folder} ({state}; {origin} {CACHE_VARIABLE})",
        *(f"{other} (only files with the right SHA-256)" for other in other_folders()),
        "Hugging Face's own cache (only weights of its repositories)",
        network,
    ]


def cached_files() -> list[CachedFile]:
    """Weights on this machine: everything in our cache, and known files in other programs' folders.

    Nothing is hashed: what is listed may still be damaged.

    Returns:
        The files, those of our cache first, each group sorted by path.
    """
    names = {
        source.filename: source.name
        for name in DEFAULT_NAMES
        for source in sources_of(name)
        if isinstance(source, WeightsFile)
    }
    listed = []
    for path in sorted(_glob(cache_dir(), "*")):
        if os.path.isfile(path) and not path.name.endswith(
            (STAMP_SUFFIX, LOCK_SUFFIX, PARTIAL_SUFFIX)
        ):
            listed.append(CachedFile(path, path.stat().st_size, names.get(path.name, "")))
    for path in sorted(_glob(hub_cache_dir(), "models--*/snapshots/*/*")):
        if os.path.isfile(path) and not path.name.endswith(STAMP_SUFFIX):
            repo_id = path.parents[2].name[len("models--") :].replace("--", "/")
            listed.append(CachedFile(path, path.stat().st_size, f"{repo_id}/{path.name}"))
    for folder in other_folders():
        for path in sorted(folder / filename for filename in names):
            if os.path.isfile(path):
                listed.append(CachedFile(path, path.stat().st_size, names[path.name]))
    return listed


def _glob(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder; none where this user may not look."""
    return [Path(found) for found in glob.glob(os.path.join(glob.escape(str(folder)), pattern))]


def _is_genuine(path: Path, file: WeightsFile, *, rehash: bool = False) -> bool:
    try:
        if file.size is not None and path.stat().st_size != file.size:
            return False
        return matches(recorded_sha256(path, rehash=rehash), file.sha256)
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error}") from error
