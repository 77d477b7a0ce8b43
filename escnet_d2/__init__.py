"""Open-vocabulary semantic segmentation for Detectron2: ESC-Net (CVPR 2025).

Importing the package registers what Detectron2 finds by name: the meta-architecture ``ESCNet`` and
the benchmark data sets. Where a package that this needs is missing or broken, the import warns but
succeeds, so that ``python -m escnet_d2.doctor`` can say what is wrong; the names below then fail.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from .version import __version__

__all__ = ["OpenVocabPredictor", "__version__", "get_cfg"]

# Loaded when they are first asked for.
_HOMES = {"OpenVocabPredictor": "escnet_d2.engine", "get_cfg": "escnet_d2.config"}
_DOCTOR = "run python -m escnet_d2.doctor"
_failure: Exception | None = None


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _failure is not None:
        raise ImportError(f"escnet_d2.{name} cannot be used: {_failure}; {_DOCTOR}") from _failure
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


try:
    from . import data, modeling, projects
# What packages raise that lack a part, or were built for another CUDA, torch, NumPy or Pillow.
except (ImportError, OSError, RuntimeError, AttributeError) as error:
    if isinstance(error, ImportError) and (error.name or "").startswith(__name__):
        raise
    _failure = error
    warnings.warn(f"escnet_d2 cannot be used: {error}; {_DOCTOR}", stacklevel=2)
