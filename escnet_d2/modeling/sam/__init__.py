"""SAM blocks on the modules of segment_anything, and what makes their input of CLIP's features."""

from .adapter import AdapterFit, SamAdapter
from .build import build_full_sam, build_sam_adapter, build_sam_blocks
from .image_encoder import SamImageEncoder, build_sam_image_encoder
from .sam_block import SamBlock

__all__ = [
    "AdapterFit",
    "SamAdapter",
    "SamBlock",
    "SamImageEncoder",
    "build_full_sam",
    "build_sam_adapter",
    "build_sam_blocks",
    "build_sam_image_encoder",
]
