"""Released weights as files: where they are on this machine, and how they get there.

CLIP's files are those of open_clip's table, in Hugging Face's cache (HF_HOME). SAM's is in
torch.hub's (TORCH_HOME). HF_HUB_OFFLINE=1 forbids downloads of both.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from .checksum import sha256_of
from .shipped import shipped_file, shipped_manifest
from .state_dict import WeightsError

logger = logging.getLogger(__name__)

# Set to 1 it accepts files whose publisher states no SHA-256.
UNVERIFIED_VARIABLE = "ESCNET_ALLOW_UNVERIFIED"


@dataclass(frozen=True)
class ReleasedFile:
    """File of a Hugging Face repository in its cache or, with a SHA-256, of an address.

    Attributes:
        name: by which ``tools/download_weights.py`` and messages call it.
        source: "owner/model", or the address.
        filenames: in the repository: the same weights in several formats, the preferred one first;
            it may have only some of them.
        sha256: of the file behind the address, which is kept in torch.hub's folder.
        repo_type: of the repository, "model" or "space".
    """

    name: str
    source: str
    filenames: tuple[str, ...] = ()
    sha256: str = ""
    repo_type: str = "model"

    @property
    def origin(self) -> str:
        """Source of the file, in words."""
        if self.sha256:
            return f"{self.source}, SHA-256 {self.sha256}"
        folder = "spaces/" if self.repo_type == "space" else ""
        return f"https://huggingface.co/{folder}{self.source}"

    @property
    def place(self) -> Path:
        """Path of the file, or folder of the repository, whether it is there or not."""
        if self.sha256:
            folder = Path(torch.hub.get_dir()).absolute() / "checkpoints"
            return folder / self.source.rpartition("/")[2]
        return Path(constants.HF_HUB_CACHE) / f"{self.repo_type}s--{self.source.replace('/', '--')}"

    def find(self) -> Path | None:
        """Returns the file if it is on this machine."""
        if self.sha256:
            return self.place if os.path.isfile(self.place) else None
        kind = {"repo_type": self.repo_type}
        found = (try_to_load_from_cache(self.source, name, **kind) for name in self.filenames)
        return next((Path(path) for path in found if isinstance(path, str)), None)

    def stated_sha256(self, path: Path) -> str:
        """Returns the SHA-256 that a file must have, "" if its repository stated none."""
        # The cache is a folder of links to files that are named by their repository's digest.
        name = Path(os.readlink(path)).name if path.is_symlink() else ""
        return self.sha256 or (name if re.fullmatch("[0-9a-f]{64}", name) else "")

    def download(self) -> Path:
        """Fetches and verifies the file, of a repository in the first format that it has."""
        if self.sha256:
            # It appears under its name when it is whole and right.
            self.place.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.source, str(self.place), hash_prefix=self.sha256)
            return self.place
        for filename in self.filenames:
            try:
                path = Path(hf_hub_download(self.source, filename, repo_type=self.repo_type))
            except LocalEntryNotFoundError:
                # An EntryNotFoundError too, but of the network's making.
                raise
            except EntryNotFoundError:
                continue
            stated = self.stated_sha256(path)
            if stated and sha256_of(path) != stated:
                for part in (path.resolve(), path):
                    part.unlink()
                raise ValueError(f"{filename} arrived with another SHA-256 than {stated}")
            return path
        raise FileNotFoundError(f"{self.source} has none of {', '.join(self.filenames)}")


_SAM_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"
# SAM's official checkpoints by MODEL.SAM.WEIGHTS.
SAM_FILES = {
    name: ReleasedFile(name=f"sam_{name}", source=_SAM_ADDRESS + filename, sha256=sha256)
    for name, filename, sha256 in (
        (
            "vit_b",
            "sam_vit_b_01ec64.pth",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        (
            "vit_l",
            "sam_vit_l_0b3195.pth",
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        (
            "vit_h",
            "sam_vit_h_4b8939.pth",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
    )
}
# Whole models that their authors publish and that need no form, by our names.
_PUBLISHED = {
    name: ReleasedFile(name, "hamacojr/CAT-Seg-weights", (file,), repo_type="space")
    for name, file in (("cat_seg_vitb16", "model_base.pth"), ("cat_seg_vitl14", "model_large.pth"))
}
PUBLISHED_NAMES = tuple(_PUBLISHED)
# Names of what the shipped configurations ask for, and open_clip's model and tag.
_CLIP_OF_CONFIGS = {
    "clip_vit_b_16": ("ViT-B-16-quickgelu", "openai"),
    "clip_vit_l_14_336": ("ViT-L-14-336-quickgelu", "openai"),
}
RELEASED_NAMES = (SAM_FILES["vit_b"].name, *_CLIP_OF_CONFIGS)


def model_weights_path(spec: str) -> str:
    """Returns MODEL.WEIGHTS as a path.

    Args:
        spec: the name of shipped or published weights, which are downloaded if need be; anything
            else comes back unchanged.

    Raises:
        WeightsError: published weights cannot be downloaded.
    """
    file = shipped_file(spec)
    if file is None and spec in _PUBLISHED:
        file = fetch(_PUBLISHED[spec])
    return spec if file is None else str(file)


def hub_weights_file(repo_id: str, filename: str = "model_final.pth") -> Path:
    """Finds a checkpoint of a Hugging Face repository, and downloads it if need be.

    Args:
        repo_id: "owner/model".
        filename: in the repository.

    Raises:
        WeightsError: ``repo_id`` is not of that form, or as :func:`fetch`.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        known = ", ".join((*shipped_manifest(), *PUBLISHED_NAMES))
        raise WeightsError(
            f"No weights are called {repo_id!r}; accepted: {known}, or OWNER/MODEL of Hugging Face."
        )
    return fetch(ReleasedFile(f"{repo_id}/{filename}", repo_id, (filename,)))


def clip_weights_file(name: str, spec: str) -> Path:
    """Finds CLIP weights, and downloads them if need be.

    Args:
        name: an open_clip model, such as "ViT-B-16-quickgelu".
        spec: the path of a file, the name of shipped weights ("clip_shapes"), or a pre-training tag
            that open_clip has for the model.

    Raises:
        WeightsError: the path or the tag does not exist (lists the accepted tags), or the file is
            not on this machine and cannot be downloaded (says how to get it).
    """
    return _given_file(spec) or fetch(_clip_file(name, spec))


def sam_weights_file(spec: str) -> Path:
    """Finds weights of SAM, and downloads them if need be.

    Args:
        spec: the path of a file, the name of shipped weights ("sam_shapes"), or "vit_b", "vit_l" or
            "vit_h" for an official checkpoint.

    Raises:
        WeightsError: as :func:`clip_weights_file`.
    """
    given = _given_file(spec)
    if given is None and spec not in SAM_FILES:
        raise WeightsError(
            f"{spec!r} names no SAM weights; accepted: {', '.join(SAM_FILES)}, the path of a file, "
            f'"random", or what is shipped: {", ".join(shipped_manifest())}.'
        )
    return given or fetch(SAM_FILES[spec])


def released_file(name: str) -> ReleasedFile:
    """Looks up released weights.

    Args:
        name: one of ``RELEASED_NAMES`` or ``PUBLISHED_NAMES``, "sam_vit_l", "sam_vit_h", or
            "MODEL:TAG" in open_clip's terms.

    Raises:
        WeightsError: another name; lists the accepted ones.
    """
    files = {file.name: file for file in SAM_FILES.values()} | _PUBLISHED
    if name in files:
        return files[name]
    model, _, tag = name.partition(":")
    if tag:
        return _clip_file(model, tag)
    if name not in _CLIP_OF_CONFIGS:
        known = ", ".join((*RELEASED_NAMES, "sam_vit_l", "sam_vit_h", *PUBLISHED_NAMES))
        raise WeightsError(
            f"No weights are called {name!r}; accepted: {known}, or MODEL:TAG of open_clip, such "
            "as ViT-B-16:laion2b_s34b_b88k."
        )
    return _clip_file(*_CLIP_OF_CONFIGS[name])


def find_released() -> dict[str, Path | None]:
    """Returns the released and published files on this machine by name, None for those missing."""
    return {name: released_file(name).find() for name in (*RELEASED_NAMES, *PUBLISHED_NAMES)}


def fetch(file: ReleasedFile) -> Path:
    """Finds a released file on this machine, or downloads and verifies it.

    What is found is not hashed, since it was when it arrived.

    Raises:
        WeightsError: it is neither here nor to be had (says where it belongs and how to get it), or
            its publisher states no SHA-256 and ESCNET_ALLOW_UNVERIFIED is not set.
    """
    path = file.find()
    if path is not None:
        _stated_sha256(file, path)
        return path
    if constants.HF_HUB_OFFLINE:
        raise WeightsError(_how_to_get(file, "HF_HUB_OFFLINE forbids downloading it"))
    logger.info("Downloading %s to %s", file.name, file.place)
    try:
        path = file.download()
    except Exception as error:
        # Errors of whichever HTTP client is in use have no base class in common.
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise WeightsError(_how_to_get(file, f"cannot be downloaded: {reason}")) from error
    stated = _stated_sha256(file, path)
    if stated:
        logger.info("%s has the SHA-256 that its publisher states, %s", path, stated)
    return path


def verify(file: ReleasedFile, path: Path) -> None:
    """Hashes a released file that is on this machine.

    Raises:
        WeightsError: it does not have the SHA-256 that its publisher states, or none is stated.
    """
    stated = _stated_sha256(file, path)
    if stated and sha256_of(path) != stated:
        raise WeightsError(f"{path} is damaged: its SHA-256 is not {stated}. Delete it.")


def _stated_sha256(file: ReleasedFile, path: Path) -> str:
    """Returns what a file must have, "" if the user accepts a file without any."""
    stated = file.stated_sha256(path)
    if not stated and os.environ.get(UNVERIFIED_VARIABLE) != "1":
        raise WeightsError(
            f"{path} cannot be verified: no SHA-256 is known for it, neither from {file.origin} "
            "nor as the target of a link, which a copy with rsync -a or cp -a keeps. Set "
            f"{UNVERIFIED_VARIABLE}=1 to use it all the same."
        )
    if not stated:
        logger.warning("%s is not verified: no SHA-256 is known for it.", path)
    return stated


def _given_file(spec: str) -> Path | None:
    """Returns the file that a specification names, None if it is neither a path nor shipped."""
    path = Path(os.path.expanduser(model_weights_path(spec)))
    if os.path.isfile(path):
        return path
    if "://" in spec:
        raise WeightsError(f"{spec} is an address: download the file and give its path.")
    if path.suffix or path.name != spec:
        problem = "is a folder, not a file" if os.path.isdir(path) else "does not exist"
        raise WeightsError(f"The weights file {path.absolute()} {problem}.")
    return None


def _clip_file(model: str, tag: str) -> ReleasedFile:
    location = get_pretrained_cfg(model, tag).get("hf_hub")
    if not location:
        tags = sorted(list_pretrained_tags_by_model(model))
        raise WeightsError(
            f"{tag!r} is not a pre-training tag of {model!r}; accepted: "
            f'{"".join(f"{known}, " for known in tags)}the path of a file, or "random".'
        )
    # "owner/model/" stands for open_clip's usual file names, "owner/model/file" for that file.
    repo_id, _, filename = location.rpartition("/")
    safe = PurePosixPath(filename).with_suffix(".safetensors").name if filename else ""
    filenames = (safe, filename) if filename else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    return ReleasedFile(f"{model}:{tag}", repo_id, filenames)


def _how_to_get(file: ReleasedFile, reason: str) -> str:
    return (
        f"The weights {file.name} are not on this machine (they belong at {file.place}), and "
        f"{reason}. To fetch them: python tools/download_weights.py {file.name}; its --cache DIR "
        "makes a folder to copy to a machine without network."
    )
