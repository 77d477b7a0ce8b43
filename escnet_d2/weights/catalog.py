"""Which released weights exist and where they come from. Nothing is read or fetched here.

CLIP weights are those of open_clip's own table; only SAM's entry is written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Union
from urllib.parse import urlsplit

from .checksum import is_sha256
from .errors import WeightsError


@dataclass(frozen=True)
class WeightsFile:
    """A file behind one or more plain addresses.

    Attributes:
        name: what the command line and messages call it, such as "sam_vit_b".
        filename: its name in the cache, which is also the last part of its address.
        urls: where to get it, tried in order.
        sha256: the full SHA-256 in lower case, its first digits where no more is published, or ""
            where nothing is.
        size: in bytes, or None when unknown.
    """

    name: str
    filename: str
    urls: tuple[str, ...]
    sha256: str = ""
    size: int | None = None


@dataclass(frozen=True)
class HubFile:
    """A file in a Hugging Face model repository, which states its own SHA-256.

    Attributes:
        name: what the command line and messages call it.
        repo_id: "owner/model".
        filenames: the same weights in several formats, the preferred one first; a repository may
            have only some of them.
    """

    name: str
    repo_id: str
    filenames: tuple[str, ...]


Source = Union[WeightsFile, HubFile]

SAM_VIT_B = WeightsFile(
    name="sam_vit_b",
    filename="sam_vit_b_01ec64.pth",
    urls=("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",),
    sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    size=375042383,
)

# What the shipped configurations ask for: short name -> open_clip model and tag.
_CLIP_OF_CONFIGS = {
    "clip_vit_b_16": ("ViT-B-16-quickgelu", "openai"),
    "clip_vit_l_14_336": ("ViT-L-14-336-quickgelu", "openai"),
}
DEFAULT_NAMES = (SAM_VIT_B.name, *_CLIP_OF_CONFIGS)


def sources_of(name: str) -> tuple[Source, ...]:
    """Everywhere that weights of a given name can come from.

    Args:
        name: one of ``DEFAULT_NAMES``, or "model:tag" in open_clip's terms.

    Returns:
        The sources, the preferred one first.

    Raises:
        WeightsError: nothing has this name; lists the accepted ones.
    """
    if name == SAM_VIT_B.name:
        return (SAM_VIT_B,)
    if name in _CLIP_OF_CONFIGS:
        return clip_sources(*_CLIP_OF_CONFIGS[name], label=name)
    model, colon, tag = name.partition(":")
    if not colon:
        raise WeightsError(
            f"No weights are called {name!r}; accepted: {', '.join(DEFAULT_NAMES)}, or "
            "MODEL:TAG of open_clip, such as ViT-B-16:laion2b_s34b_b88k."
        )
    return clip_sources(model, tag)


def clip_tags(model: str) -> list[str]:
    """Pre-training tags that open_clip lists for one of its models; none for an unknown model.

    Args:
        model: a name such as "ViT-B-16-quickgelu".
    """
    from open_clip.pretrained import list_pretrained_tags_by_model

    return sorted(list_pretrained_tags_by_model(model))


def clip_sources(model: str, tag: str, *, label: str | None = None) -> tuple[Source, ...]:
    """Sources of CLIP weights by open_clip's names.

    An address that comes with a full SHA-256 is preferred, then Hugging Face, whose repositories
    state one, then an address with less.

    Args:
        model: a name such as "ViT-B-16-quickgelu".
        tag: a pre-training tag such as "openai"; case and hyphens do not matter, as in open_clip.
        label: what to call the weights; "model:tag" by default.

    Returns:
        One or two sources, the preferred one first.

    Raises:
        WeightsError: open_clip has no such model or tag; lists the accepted tags.
    """
    from open_clip.pretrained import get_pretrained_cfg

    entry = get_pretrained_cfg(model, tag)
    if not entry:
        raise WeightsError(_unknown_tag(model, tag))
    name = label or f"{model}:{tag}"
    plain = _plain_sources(name, entry)
    hub = _hub_sources(name, entry)
    verifiable = bool(plain) and is_sha256(plain[0].sha256)
    return (*plain, *hub) if verifiable else (*hub, *plain)


def _unknown_tag(model: str, tag: str) -> str:
    tags = clip_tags(model)
    if not tags:
        return (
            f"open_clip has no pre-trained weights for the model {model!r}, so {tag!r} names none: "
            'give the path of a file, or "random".'
        )
    return (
        f"{tag!r} is no pre-training tag of {model!r}; accepted: {', '.join(tags)}, "
        'the path of a file, or "random".'
    )


def _plain_sources(name: str, entry: Mapping[str, object]) -> tuple[WeightsFile, ...]:
    url = str(entry.get("url") or "")
    if not url:
        return ()
    path = PurePosixPath(urlsplit(url).path)
    return (WeightsFile(name, path.name, (url,), _sha256_in_address(url, path)),)


def _sha256_in_address(url: str, path: PurePosixPath) -> str:
    # OpenAI's addresses have the digest as the folder of the file; open_clip's own releases have
    # its first eight digits at the end of the file name.
    if is_sha256(path.parent.name):
        return path.parent.name
    return path.stem.rpartition("-")[2] if "/mlfoundations/" in url else ""


def _hub_sources(name: str, entry: Mapping[str, object]) -> tuple[HubFile, ...]:
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    location = str(entry.get("hf_hub") or "")
    if not location:
        return ()
    # "owner/model/" stands for open_clip's usual file names, "owner/model/file" for that file.
    repo_id, _, filename = location.rpartition("/")
    if not filename:
        return (HubFile(name, repo_id, (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)),)
    safe = PurePosixPath(filename).with_suffix(".safetensors").name
    return (HubFile(name, repo_id, tuple(dict.fromkeys((safe, filename)))),)
