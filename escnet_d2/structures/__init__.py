"""Plain data that the rooms pass to each other."""

from .features import ClipFeatures, PseudoPrompts
from .segmentation import Segmentation
from .vocabulary import Vocabulary

__all__ = ["ClipFeatures", "PseudoPrompts", "Segmentation", "Vocabulary"]
