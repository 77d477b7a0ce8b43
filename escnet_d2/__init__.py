"""Open-vocabulary semantic segmentation for Detectron2: ESC-Net (CVPR 2025).

Importing the package registers what Detectron2 finds by name: the meta-architectures and the
benchmark data sets. ``OpenVocabPredictor`` and ``get_cfg`` load when they are first asked for.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

from .version import __version__

__all__ = ["OpenVocabPredictor", "__version__", "get_cfg"]

_HOMES = {"OpenVocabPredictor": "escnet_d2.engine", "get_cfg": "escnet_d2.config"}

try:
    with warnings.catch_warnings():
        # fvcore and Detectron2 compile functions when they are imported.
        warnings.filterwarnings("ignore", "`torch.jit.script` is ", FutureWarning)
        from . import data, modeling, projects
except Exception as error:
    # With -m, Python imports the package to find the module: the doctor must start nevertheless.
    if sys.argv[0] != "-m":
        raise ImportError(
            f"escnet_d2 can't be imported ({type(error).__name__}: {error}): "
            "python -m escnet_d2.doctor says what is missing"
        ) from error


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
