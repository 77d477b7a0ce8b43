"""Reads any file that weights or checkpoints come in, without running code from it."""

from __future__ import annotations

import logging
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from open_clip.pretrained import get_pretrained_url, list_pretrained_models_by_tag
from torch import Tensor

from .checksum import sha256_of
from .token_rows import restore_token_rows

logger = logging.getLogger(__name__)

# Training checkpoints hold the weights under one of these keys, beside the optimizer and so on.
_WRAPPERS = ("state_dict", "model")
# DistributedDataParallel's prefix.
_PARALLEL_PREFIX = "module."
# Facts about the model that OpenAI's archives keep as buffers.
_OPENAI_FACTS = frozenset({"input_resolution", "context_length", "vocab_size"})
# First bytes, in lower case, of what often lies in the place of weights.
_MISTAKEN = (
    (b"version https://git-lfs", "a Git LFS pointer: get the file itself with git lfs pull"),
    (b"<", "an HTML or XML page, as of a login or an error: download the file again"),
)


class WeightsError(RuntimeError):
    """Weights are missing, damaged or not what they should be; names the file."""


def load_state_dict(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Reads the tensors of a weights file onto the CPU.

    Takes files of ``torch.save`` (a state dict, or a checkpoint with one under ``state_dict`` or
    ``model``), safetensors, and the TorchScript archives of CLIP that OpenAI published, known by
    their SHA-256. Where the format allows it the tensors are mapped from the file, so that only
    those used are read.

    Returns:
        Parameter names, without the ``module.`` of parallel training, and tensors in the precision
        that the file has.

    Raises:
        WeightsError: the file cannot be read, is damaged, holds pickled code, or holds no weights;
            names the file and what it looks like.
    """
    content = _read(Path(path), mmap=True)
    while True:
        inner = next((content[k] for k in _WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(
            f"{path} holds no weights: its entries are {_listing(content) or 'none'}, "
            "and none of them is a tensor."
        )
    if len(tensors) < len(content):
        others = [name for name in content if name not in tensors]
        logger.info("%s: entries that are not tensors are left out: %s", path, _listing(others))
    if all(name.startswith(_PARALLEL_PREFIX) for name in tensors):
        tensors = {name[len(_PARALLEL_PREFIX) :]: value for name, value in tensors.items()}
    tensors = {name: value for name, value in tensors.items() if name not in _OPENAI_FACTS}
    return restore_token_rows(tensors)


def load_checkpoint_file(path: str | PathLike[str]) -> dict[str, Any]:
    """Reads all that a file of one of these formats holds, onto the CPU, as it is.

    The tensors are in memory, so that the file may be replaced while they are in use.

    Raises:
        WeightsError: as :func:`load_state_dict`, but for a file without weights.
    """
    return dict(_read(Path(path), mmap=False))


def stored_config(path: str | PathLike[str]) -> Mapping[str, Any] | None:
    """Returns the configuration that a checkpoint of this package holds, None where none is.

    Raises:
        WeightsError: as :func:`load_checkpoint_file`.
    """
    config = _read(Path(path), mmap=True).get("config")
    return config if isinstance(config, Mapping) else None


def _read(path: Path, *, mmap: bool) -> Mapping[str, Any]:
    # A named pipe would block.
    if not os.path.isfile(path):
        problem = "it is not a regular file" if os.path.exists(path) else "it does not exist"
        raise WeightsError(f"Cannot read the weights file {path}: {problem}.")
    try:
        content = _read_by_type(path, mmap=mmap)
    except WeightsError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(f"Cannot read the weights file {path}: {reason}.") from error
    except Exception as error:
        # Damaged bytes make the readers fail in any way: KeyError, EOFError, UnicodeDecodeError...
        raise WeightsError(_explain(path, error)) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__} instead of a state dict.")
    return content


def _read_by_type(path: Path, *, mmap: bool) -> Any:
    with open(path, "rb") as stream:
        head = stream.read(64)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path, mmap=mmap)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        with warnings.catch_warnings():
            # Of pickle's newer protocols, which either work or are refused.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(str(path), map_location="cpu", weights_only=True)
    # The length of a JSON header in eight bytes, then the header.
    if head[8:9] == b"{" and b"\0" in head[:8]:
        from safetensors.torch import load_file

        return load_file(str(path), device="cpu")
    if not head:
        raise WeightsError(f"{path} is empty: download or copy it again.")
    looks = next((what for start, what in _MISTAKEN if head.lstrip().lower().startswith(start)), "")
    looks = looks or f"it begins with {head[:16]!r}, as none of their formats does"
    raise WeightsError(f"{path} is not a weights file: {looks}.")


def _read_zip(path: Path, *, mmap: bool) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name.split("/", 1)[-1] for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{path} is truncated or damaged: it begins as a PyTorch file, but its end is missing "
            f"({path.stat().st_size} bytes are there). Download or copy it again."
        ) from error
    # By this file torch tells TorchScript, which some versions then load without weights_only.
    if any(name.endswith("constants.pkl") for name in members):
        return _read_torchscript(path)
    if "data.pkl" not in members:
        raise WeightsError(f"{path} is not a weights file: it is a zip archive, but not PyTorch's.")
    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mmap)


def _read_torchscript(path: Path) -> Any:
    if sha256_of(path) not in _openai_sha256():
        raise WeightsError(
            f"{path} is refused: it is a TorchScript archive, which can run any code when loaded, "
            "and by its SHA-256 not one of OpenAI's. If you trust the file, save its state dict as "
            "safetensors and use that."
        )
    with warnings.catch_warnings():
        # Deprecated for new files; OpenAI's own come in no other format.
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.load(str(path), map_location="cpu").state_dict()


def _openai_sha256() -> set[str]:
    """Digests of OpenAI's CLIP models, the last folder of their addresses in open_clip's table."""
    models = list_pretrained_models_by_tag("openai")
    return {get_pretrained_url(model, "openai").split("/")[-2] for model in models}


def _explain(path: Path, error: Exception) -> str:
    # Never torch's own message of an UnpicklingError: it advises to switch the protection off.
    if not isinstance(error, pickle.UnpicklingError):
        reason = (str(error).strip().splitlines() or ["no further message"])[0]
        return f"{path} is truncated or damaged ({type(error).__name__}: {reason[:200]})."
    # Older torch wraps the end of a truncated file in the same error as refused objects.
    if "unexpected EOF" in str(error):
        return f"{path} is truncated or damaged. Download or copy it again."
    wanted = re.search(r"(?:GLOBAL|Unsupported class) (\S+)", str(error))
    objects = f" ({wanted[1]})" if wanted else ""
    return (
        f"{path} is refused: besides tensors it holds pickled Python objects{objects}, which "
        "could run any code when loaded. If you trust the file, save its plain state dict as "
        "safetensors and use that."
    )


def _listing(names: Mapping[str, Any] | list[str]) -> str:
    shown = [str(name) for name in list(names)[:8]]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
