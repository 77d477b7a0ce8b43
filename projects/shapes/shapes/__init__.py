"""The procedural data set ``shapes``: a small open-vocabulary world, drawn from seeds."""

from .error_sources import ErrorSources
from .group_scores import GROUPS, group_miou
from .register import register_shapes, shapes_root
from .scenes import Scene, draw_scene
from .splits import SPLITS, Split, prepare_split, read_captions, scenes_sha256
from .world import (
    CLASSES,
    COLORS,
    SEEN_THINGS,
    SHAPES,
    STUFF,
    TEXTURES,
    THINGS,
    TRAIN_CLASSES,
    UNSEEN_THINGS,
    Thing,
)

__all__ = [
    "CLASSES",
    "COLORS",
    "GROUPS",
    "SEEN_THINGS",
    "SHAPES",
    "SPLITS",
    "STUFF",
    "TEXTURES",
    "THINGS",
    "TRAIN_CLASSES",
    "UNSEEN_THINGS",
    "ErrorSources",
    "Scene",
    "Split",
    "Thing",
    "draw_scene",
    "group_miou",
    "prepare_split",
    "register_shapes",
    "read_captions",
    "scenes_sha256",
    "shapes_root",
]

register_shapes()
