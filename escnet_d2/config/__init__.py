"""Default configuration: Detectron2's keys plus ours, in a node that reads files safely."""

from __future__ import annotations

from detectron2.config import get_cfg as get_detectron2_cfg

from .baselines import add_baseline_config
from .checks import check_at_least, check_choice, chunk_size
from .common import add_ovseg_config
from .deprecated import DEPRECATED_KEYS
from .escnet import add_escnet_config
from .methods import METHODS, Method, class_list_setting, method_of, synonym_mode
from .node import ConfigFileError, ConfigNode, key_values, read_config
from .sam_mi import add_sam_mi_config

__all__ = [
    "DEPRECATED_KEYS",
    "METHODS",
    "ConfigFileError",
    "ConfigNode",
    "Method",
    "check_at_least",
    "check_choice",
    "chunk_size",
    "class_list_setting",
    "get_cfg",
    "key_values",
    "method_of",
    "read_config",
    "synonym_mode",
]


def get_cfg() -> ConfigNode:
    """Returns Detectron2's default configuration with every key of this package.

    Returns:
        A fresh node; use ``merge_from_file`` and ``merge_from_list`` as usual.
    """
    cfg = ConfigNode(get_detectron2_cfg())
    add_ovseg_config(cfg)
    add_escnet_config(cfg)
    add_baseline_config(cfg)
    add_sam_mi_config(cfg)
    for key in DEPRECATED_KEYS:
        cfg.register_deprecated_key(key)
    return cfg
