"""Finds, checks and loads the compiled extension of this room.

``setup.py`` leaves a shared library ``_C`` in this folder where it could build one. Loaded into
another torch than it was built for, it may crash the process; so its own record of that torch is
read from the file first.
"""

from __future__ import annotations

import importlib.machinery
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent
# Written by escnet_d2/layers/csrc/masked_kmeans_op.cpp.
_RECORD = re.compile(
    rb"escnet_d2 extension built for torch ([^\0 ]+) (with|without) CUDA (with|without) OpenMP;"
)


class ExtensionError(RuntimeError):
    """The extension is there and can't be used; the message has the command that repairs it."""

    def __init__(self, library: Path, reason: str) -> None:
        self.reason = reason
        self.fix = f"{_build_command()}, or delete {library}"
        super().__init__(f"{library}: {reason}. To fix it: {self.fix}")


@dataclass(frozen=True)
class Extension:
    """A library that fits the torch that is running.

    Attributes:
        library: the file.
        torch_version: of the torch that it was built for.
        has_cuda: whether it has kernels for NVIDIA GPUs.
        has_openmp: whether it uses several threads on a CPU.
    """

    library: Path
    torch_version: str
    has_cuda: bool
    has_openmp: bool


def find_extension(folder: Path = FOLDER) -> Path | None:
    """Returns the library for this interpreter in ``folder``, None where none was built."""
    # Those of other interpreters may lie beside it.
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        library = folder / f"_C{suffix}"
        if library.is_file():
            return library
    return None


def load_extension(folder: Path = FOLDER) -> Extension | None:
    """Loads the library and so registers its operators; loading it again changes nothing.

    Returns:
        None where none was built.

    Raises:
        ExtensionError: built for another torch, damaged, or something that it needs is missing.
    """
    library = find_extension(folder)
    if library is None:
        return None
    record = _RECORD.search(library.read_bytes())
    if record is None:
        raise ExtensionError(library, "damaged, or not built by this version of the project")
    built_for = record.group(1).decode()
    if built_for != torch.__version__:
        raise ExtensionError(
            library, f"built for torch {built_for}, but torch {torch.__version__} is installed"
        )
    try:
        torch.ops.load_library(str(library))
    except (ImportError, OSError, RuntimeError) as error:
        raise ExtensionError(library, f"does not load: {error}") from error
    return Extension(
        library,
        built_for,
        has_cuda=record.group(2) == b"with",
        has_openmp=record.group(3) == b"with",
    )


def _build_command() -> str:
    checkout = FOLDER.parents[1]
    where = f"-e {checkout}" if (checkout / "setup.py").is_file() else "--force-reinstall escnet-d2"
    options = "--no-build-isolation --no-deps"
    return f"ESCNET_BUILD_EXT=1 {sys.executable} -m pip install {options} {where}"
