"""What a run leaves on disk: overlays, label PNGs, JSON records, and the names they go by."""

from .image_files import ImageFile, find_images
from .image_list import ImageList
from .records import RunReport
from .run_folder import OUTPUT_KINDS, SUMMARY_FILE, RunFolder, check_output_folder
from .segmented_image import SegmentedFrame, SegmentedImage

__all__ = [
    "OUTPUT_KINDS",
    "SUMMARY_FILE",
    "ImageFile",
    "ImageList",
    "RunFolder",
    "RunReport",
    "SegmentedFrame",
    "SegmentedImage",
    "check_output_folder",
    "find_images",
]
