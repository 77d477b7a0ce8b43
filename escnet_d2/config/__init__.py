"""Default configuration: Detectron2's keys plus ours, and what the methods differ in."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from .baselines import add_baseline_config
from .common import add_ovseg_config
from .deprecated import DEPRECATED_KEYS
from .escnet import add_escnet_config
from .methods import METHODS, Method, class_list_setting, method_of, synonym_mode

__all__ = [
    "DEPRECATED_KEYS",
    "METHODS",
    "Method",
    "class_list_setting",
    "get_cfg",
    "method_of",
    "synonym_mode",
]


def get_cfg() -> CfgNode:
    """Returns Detectron2's default configuration with every key of this package.

    Returns:
        A fresh node; use ``merge_from_file`` and ``merge_from_list`` as usual.
    """
    cfg = get_detectron2_cfg()
    add_ovseg_config(cfg)
    add_escnet_config(cfg)
    add_baseline_config(cfg)
    for key in DEPRECATED_KEYS:
        cfg.register_deprecated_key(key)
    return cfg
