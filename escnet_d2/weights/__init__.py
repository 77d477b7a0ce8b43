"""Released weights: found on this machine or downloaded, verified, and read safely."""

from __future__ import annotations

from .fetch import (
    PUBLISHED_NAMES,
    RELEASED_NAMES,
    clip_weights_file,
    fetch,
    find_released,
    hub_weights_file,
    model_weights_path,
    released_file,
    sam_weights_file,
    verify,
)
from .methods import checkpoint_method
from .shipped import MANIFEST, SHIPPED_DIR, shipped_config, shipped_manifest
from .state_dict import WeightsError, load_checkpoint_file, load_state_dict, stored_config
from .token_rows import keep_token_rows

__all__ = [
    "MANIFEST",
    "PUBLISHED_NAMES",
    "RELEASED_NAMES",
    "SHIPPED_DIR",
    "WeightsError",
    "checkpoint_method",
    "clip_weights_file",
    "fetch",
    "find_released",
    "hub_weights_file",
    "keep_token_rows",
    "load_checkpoint_file",
    "load_state_dict",
    "model_weights_path",
    "released_file",
    "sam_weights_file",
    "shipped_config",
    "shipped_manifest",
    "stored_config",
    "verify",
]
