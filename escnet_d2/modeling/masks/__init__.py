"""Masks without names: where they come from, how they are merged, and how they are broken."""

from .aggregation import mask_groups, merge_masks
from .finder import MaskFinder
from .sources import MASK_SOURCES, MaskSource

__all__ = ["MASK_SOURCES", "MaskFinder", "MaskSource", "mask_groups", "merge_masks"]
