"""Reads a state dict from any file that released weights come in, without running code from it."""

from __future__ import annotations

import functools
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import WeightsError
from .file_type import FileType, identify
from .token_rows import restore_token_rows

logger = logging.getLogger(__name__)

# Training checkpoints hold the weights under one of these keys, beside the optimizer and so on.
_WRAPPERS = ("state_dict", "model")
# DistributedDataParallel's prefix.
_PARALLEL_PREFIX = "module."
# Facts about the model that OpenAI's archives keep as buffers.
_OPENAI_FACTS = frozenset({"input_resolution", "context_length", "vocab_size"})


def load_state_dict(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Reads the tensors of a weights file onto the CPU.

    Takes files of ``torch.save`` (a state dict, or a checkpoint with one under ``state_dict`` or
    ``model``), safetensors, and OpenAI's TorchScript archives of CLIP. Where the format allows it
    the tensors are mapped from the file, so that only those used are read.

    Args:
        path: the file.

    Returns:
        Parameter names, without the ``module.`` of parallel training, and tensors in the precision
        that the file has.

    Raises:
        WeightsError: the file cannot be read, is damaged, holds pickled code, or holds no weights;
            names the file and what it looks like.
    """
    path = Path(path)
    content = _read(path)
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
        logger.info("%s: entries that are no tensors are left out: %s", path, _listing(others))
    if all(name.startswith(_PARALLEL_PREFIX) for name in tensors):
        tensors = {name[len(_PARALLEL_PREFIX) :]: value for name, value in tensors.items()}
    tensors = {name: value for name, value in tensors.items() if name not in _OPENAI_FACTS}
    return restore_token_rows(tensors)


def load_checkpoint_file(path: str | PathLike[str]) -> dict[str, Any]:
    """Reads all that a file of one of these formats holds, onto the CPU, as it is.

    The tensors are in memory, so that the file may be replaced while they are in use.

    Args:
        path: the file.

    Returns:
        The content of the outermost dict.

    Raises:
        WeightsError: as :func:`load_state_dict`, but for a file without weights.
    """
    return dict(_read(Path(path), mmap=False))


def _read(path: Path, *, mmap: bool = True) -> Mapping[str, Any]:
    readers: dict[FileType, Callable[[Path], Any]] = {
        FileType.ZIP: functools.partial(_read_zip, mmap=mmap),
        FileType.PICKLE: _read_pickle,
        FileType.SAFETENSORS: _read_safetensors,
    }
    try:
        file_type = identify(path)
    except OSError as error:
        raise WeightsError(f"Cannot read the weights file {path}: {error}") from error
    if file_type not in readers:
        raise WeightsError(f"{path} is no weights file: it is {file_type.value}.")
    try:
        content = readers[file_type](path)
    except WeightsError:
        raise
    except Exception as error:
        # Damaged bytes make the readers fail in any way: KeyError, EOFError, UnicodeDecodeError...
        raise WeightsError(_explain(path, file_type, error)) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__} instead of a state dict.")
    return content


def _read_zip(path: Path, *, mmap: bool) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name.split("/", 1)[-1] for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{path} is truncated or damaged: it begins as a PyTorch file, but its end is missing "
            f"({path.stat().st_size} bytes are there). Fetch or copy it again."
        ) from error
    if "constants.pkl" in members and any(name.startswith("code/") for name in members):
        return _read_torchscript(path)
    if "data.pkl" not in members:
        raise WeightsError(f"{path} is no weights file: it is a zip archive, but not PyTorch's.")
    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mmap)


def _read_torchscript(path: Path) -> Any:
    with warnings.catch_warnings():
        # Deprecated for new files; OpenAI's weights come in no other format.
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.load(str(path), map_location="cpu").state_dict()


def _read_pickle(path: Path) -> Any:
    return torch.load(str(path), map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(str(path), device="cpu")


def _explain(path: Path, file_type: FileType, error: Exception) -> str:
    # Older torch wraps the end of a truncated file in the same error as refused objects.
    cut_short = "unexpected EOF" in str(error)
    if isinstance(error, pickle.UnpicklingError) and not cut_short:
        # Not torch's own message: it advises to load the file without this protection.
        wanted = re.search(r"(?:GLOBAL|Unsupported class) (\S+)", str(error))
        objects = f" ({wanted[1]})" if wanted else ""
        return (
            f"{path} is refused: besides tensors it holds pickled Python objects{objects}, which "
            "could run any code when loaded. Where the file is trusted, save its plain state dict "
            "with torch.save and use that."
        )
    reason = (str(error).strip().splitlines() or ["no further message"])[0]
    return (
        f"{path} is damaged or no weights file: it begins as {file_type.value}, but cannot be read "
        f"({type(error).__name__}: {reason[:200]})."
    )


def _listing(names: Mapping[str, Any] | list[str]) -> str:
    shown = [str(name) for name in list(names)[:8]]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
