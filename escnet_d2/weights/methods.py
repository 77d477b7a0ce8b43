"""Tells by its names of tensors which method a checkpoint is of."""

from __future__ import annotations

from collections.abc import Collection

_TRANSFORMER = "sem_seg_head.predictor.transformer"
_INJECTION = f"{_TRANSFORMER}.injection."
# Tensors that only one method's checkpoints have.
_MARKS = {
    "CATSeg": f"{_TRANSFORMER}.layers.0.attention.norm1.weight",
    "SED": f"{_TRANSFORMER}.decoder1.attention.norm1.weight",
    "ESCNet": "sem_seg_head.correlation_embedding.weight",
}


def checkpoint_method(names: Collection[str]) -> str | None:
    """Returns the meta-architecture that a checkpoint with these names is of; None for others."""
    if any(name.startswith(_INJECTION) for name in names):
        # On top of all of CAT-Seg's.
        return "SAMMI"
    return next((method for method, mark in _MARKS.items() if mark in names), None)
