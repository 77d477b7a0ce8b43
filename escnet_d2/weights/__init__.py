"""Released weights: found on this machine or downloaded, verified, and read safely."""

from __future__ import annotations

from .fetch import (
    RELEASED_NAMES,
    clip_weights_file,
    fetch,
    find_released,
    released_file,
    sam_weights_file,
    verify,
)
from .shipped import MANIFEST, SHIPPED_DIR, model_weights_path, shipped_manifest
from .state_dict import WeightsError, load_checkpoint_file, load_state_dict
from .token_rows import keep_token_rows

__all__ = [
    "MANIFEST",
    "RELEASED_NAMES",
    "SHIPPED_DIR",
    "WeightsError",
    "clip_weights_file",
    "fetch",
    "find_released",
    "keep_token_rows",
    "load_checkpoint_file",
    "load_state_dict",
    "model_weights_path",
    "released_file",
    "sam_weights_file",
    "shipped_manifest",
    "verify",
]
