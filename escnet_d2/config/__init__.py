"""Default configuration: Detectron2's keys plus ours, in a node that reads files safely."""

from __future__ import annotations

from detectron2.config import get_cfg as get_detectron2_cfg

from .cat_seg import add_cat_seg_config
from .common import add_ovseg_config
from .escnet import add_escnet_config
from .node import ConfigFileError, ConfigNode, key_values, read_config
from .sed import add_sed_config
from .unused import UNUSED_KEYS

__all__ = [
    "UNUSED_KEYS",
    "ConfigFileError",
    "ConfigNode",
    "add_cat_seg_config",
    "add_escnet_config",
    "add_ovseg_config",
    "add_sed_config",
    "get_cfg",
    "key_values",
    "read_config",
]


def get_cfg() -> ConfigNode:
    """Returns Detectron2's default configuration with every key of this package.

    Returns:
        A fresh node; use ``merge_from_file`` and ``merge_from_list`` as usual.
    """
    cfg = ConfigNode(get_detectron2_cfg())
    add_ovseg_config(cfg)
    add_escnet_config(cfg)
    add_cat_seg_config(cfg)
    add_sed_config(cfg)
    return cfg
