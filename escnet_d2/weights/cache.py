"""Where released weights are kept on this machine, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import WeightsError

CACHE_VARIABLE = "ESCNET_CACHE"
OFFLINE_VARIABLE = "ESCNET_OFFLINE"
# Files that keep the cache in order and are no weights themselves.
STAMP_SUFFIX = ".sha256"
LOCK_SUFFIX = ".lock"
PARTIAL_SUFFIX = ".partial"


def cache_dir() -> Path:
    """The folder that downloads go to; it need not exist yet.

    Returns:
        ``$ESCNET_CACHE``, else ``$XDG_CACHE_HOME/escnet_d2``, else ``~/.cache/escnet_d2``.

    Raises:
        WeightsError: no variable is set and the user has no home folder.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = chosen or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "escnet_d2")
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as error:
        raise WeightsError(
            f"The cache folder {folder} lies in a home folder, and this user has none: "
            f"set {CACHE_VARIABLE} to a folder for downloaded weights."
        ) from error


def hub_cache_dir() -> Path:
    """The part of the cache that ``huggingface_hub`` lays out in its own way."""
    return cache_dir() / "huggingface"


def is_offline() -> bool:
    """Whether ``$ESCNET_OFFLINE`` forbids every download."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")
