"""SAM blocks on the modules of segment_anything."""

from .build import build_sam_blocks
from .sam_block import SamBlock

__all__ = ["SamBlock", "build_sam_blocks"]
