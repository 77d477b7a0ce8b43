"""Open-vocabulary semantic segmentation for Detectron2: ESC-Net (CVPR 2025).

Importing the package registers what Detectron2 finds by name: the meta-architectures and the
benchmark data sets. ``OpenVocabPredictor`` and ``get_cfg`` load when they are first asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from typing import Any

from .version import __version__

__all__ = ["OpenVocabPredictor", "__version__", "get_cfg", "register"]

_HOMES = {"OpenVocabPredictor": "escnet_d2.engine", "get_cfg": "escnet_d2.config"}


def register() -> None:
    """Registers what Detectron2 finds by name, unless the import has done so.

    Raises:
        ImportError: a required package is missing or does not work; names the doctor.
    """
    try:
        with warnings.catch_warnings():
            # fvcore and Detectron2 compile functions when they are imported.
            warnings.filterwarnings("ignore", "`torch.jit.script` is ", FutureWarning)
            for room in ("data", "modeling", "projects"):
                importlib.import_module(f"{__name__}.{room}")
    except Exception as error:
        raise ImportError(
            f"escnet_d2 can't be imported ({type(error).__name__}: {error}): "
            "python -m escnet_d2 doctor says what is missing"
        ) from error


def _is_the_command_line() -> bool:
    """Returns whether this process is ``escnet-d2`` or ``python -m escnet_d2``.

    Its help comes at once, and its doctor must start where nothing else does, so it registers by
    itself. Processes that it starts import the package as everybody does.
    """
    # Not in Python 3.9, where help is slow.
    words = getattr(sys, "orig_argv", ())
    if sys.argv[0] == "-m":
        return "-m" in words and words[words.index("-m") + 1] == __name__
    return os.path.basename(sys.argv[0]) == "escnet-d2" and sys.argv[0] in words


if not _is_the_command_line():
    register()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
