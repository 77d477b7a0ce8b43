"""Turns what a configuration says of weights into the path of a verified file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from .cache import CACHE_VARIABLE, OFFLINE_VARIABLE, cache_dir, is_offline
from .catalog import SAM_VIT_B, Source, WeightsFile, clip_sources
from .download import copy_into_cache, download
from .errors import DownloadError, WeightsError
from .hub import download_from_hub, find_in_hub_cache
from .locate import find_cached, find_elsewhere, other_folders
from .shipped_weights import find_shipped, shipped_manifest

logger = logging.getLogger(__name__)


def resolve_clip_weights(name: str, spec: str) -> Path:
    """Finds CLIP weights, and downloads them if need be.

    Args:
        name: an open_clip model, such as "ViT-B-16-quickgelu".
        spec: the path of a file, the name of shipped weights ("clip_shapes"), or a pre-training tag
            that open_clip has for the model.

    Returns:
        The path of a file; its SHA-256 is verified unless the caller gave the path.

    Raises:
        WeightsError: the path or the tag does not exist (lists the accepted tags), or the file is
            neither here nor to be had (says how to get it).
    """
    path = _given_path(spec)
    return path if path is not None else _resolve(clip_sources(name, spec))


def resolve_sam_weights(spec: str) -> Path:
    """Finds weights of SAM, and downloads them if need be.

    Args:
        spec: the path of a file, the name of shipped weights ("sam_shapes"), or "vit_b" for the
            official ViT-B checkpoint.

    Returns:
        The path of a file; its SHA-256 is verified unless the caller gave the path.

    Raises:
        WeightsError: the path does not exist, the word is not an accepted one, or the file is
            neither here nor to be had (says how to get it).
    """
    path = _given_path(spec)
    if path is not None:
        return path
    if spec != "vit_b":
        raise WeightsError(
            f'{spec!r} names no SAM weights; accepted: "vit_b", the path of a file, "random", or '
            f"what is shipped: {', '.join(shipped_manifest())}."
        )
    return _resolve((SAM_VIT_B,))


def fetch_into_cache(sources: Sequence[Source]) -> Path:
    """Puts weights into the cache folder, so that the folder can be copied to another machine.

    Args:
        sources: where the weights can come from, the preferred one first.

    Returns:
        The path inside the cache.

    Raises:
        WeightsError: no source has them; says how to get them.
    """
    found = verify_cached(sources)
    if found is not None:
        return found
    for source in sources:
        if isinstance(source, WeightsFile):
            elsewhere = find_elsewhere(source)
            if elsewhere is not None:
                logger.info("Copying %s into the cache", elsewhere)
                return copy_into_cache(elsewhere, source)
    return _download_first(sources)


def verify_cached(sources: Sequence[Source], *, rehash: bool = False) -> Path | None:
    """Looks for weights in the cache folder only, and checks their SHA-256.

    Args:
        sources: where the weights can come from, the preferred one first.
        rehash: read the whole file even if it was verified before.

    Returns:
        The path inside the cache, or None when nothing is there, or nothing genuine.
    """
    for source in sources:
        if isinstance(source, WeightsFile):
            found = find_cached(source, rehash=rehash)
        else:
            found = find_in_hub_cache(source, rehash=rehash, only_ours=True)
        if found is not None:
            return found
    return None


def _given_path(spec: str) -> Path | None:
    """The file that a specification names, or None when it is neither a path nor shipped."""
    path = Path(os.path.expanduser(spec))
    if path.is_file():
        return path
    shipped = find_shipped(spec)
    if shipped is not None:
        return shipped
    if "://" in spec:
        raise WeightsError(f"{spec} is an address: download the file and give its path.")
    if path.suffix or path.name != spec:
        problem = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise WeightsError(f"The weights file {path.absolute()} {problem}.")
    return None


def _resolve(sources: Sequence[Source]) -> Path:
    for source in sources:
        if isinstance(source, WeightsFile):
            found = find_cached(source) or find_elsewhere(source)
        else:
            found = find_in_hub_cache(source)
        if found is not None:
            return found
    return _download_first(sources)


def _download_first(sources: Sequence[Source]) -> Path:
    if is_offline():
        raise WeightsError(_how_to_get(sources, f"{OFFLINE_VARIABLE} forbids downloading it"))
    failures = []
    for source in sources:
        try:
            if isinstance(source, WeightsFile):
                return download(source)
            return download_from_hub(source)
        except DownloadError as error:
            failures.append(str(error))
    raise WeightsError(_how_to_get(sources, "could not be downloaded", failures))


def _how_to_get(sources: Sequence[Source], reason: str, failures: Sequence[str] = ()) -> str:
    name = sources[0].name
    plain = [source for source in sources if isinstance(source, WeightsFile)]
    what = f"{plain[0].filename} ({name})" if plain else name
    lines = [f"The weights file {what} is not on this machine and {reason}."]
    lines += [f"  {failure}" for failure in failures]
    for source in plain:
        target = cache_dir() / source.filename
        there = " (the file there now has another SHA-256)" if os.path.isfile(target) else ""
        lines += [
            f"Put it at {target}{there}",
            f"  from {' or '.join(source.urls)}",
            f"  SHA-256 {source.sha256 or 'not published'}",
        ]
    lines += [
        f"Or give the path of {source.filenames[0]} from https://huggingface.co/{source.repo_id}"
        for source in sources
        if not isinstance(source, WeightsFile)
    ]
    lines += [
        "Or, on a machine with network, run",
        f"  python tools/download_weights.py --cache FOLDER {name}",
        f"and copy what is in it to {cache_dir()}, or set {CACHE_VARIABLE} to the copy.",
        f"Looked in {cache_dir()}, {', '.join(str(folder) for folder in other_folders())}.",
    ]
    return "\n".join(lines)
