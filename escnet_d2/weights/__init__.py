"""Released weights: found on this machine or downloaded, verified, and read safely."""

from __future__ import annotations

from .cache import cache_dir, is_offline
from .catalog import DEFAULT_NAMES, HubFile, WeightsFile, clip_tags, sources_of
from .errors import DownloadError, WeightsError
from .locate import CachedFile, cached_files, describe_search_path
from .resolve import (
    fetch_into_cache,
    resolve_clip_weights,
    resolve_sam_weights,
    verify_cached,
)
from .sam import sam_decoder_state_dict
from .shipped_weights import model_weights_path, shipped_manifest
from .state_dict import load_checkpoint_file, load_state_dict
from .token_rows import keep_token_rows

__all__ = [
    "DEFAULT_NAMES",
    "CachedFile",
    "DownloadError",
    "HubFile",
    "WeightsError",
    "WeightsFile",
    "cache_dir",
    "cached_files",
    "clip_tags",
    "describe_search_path",
    "fetch_into_cache",
    "is_offline",
    "keep_token_rows",
    "load_checkpoint_file",
    "load_state_dict",
    "model_weights_path",
    "resolve_clip_weights",
    "resolve_sam_weights",
    "sam_decoder_state_dict",
    "shipped_manifest",
    "sources_of",
    "verify_cached",
]
