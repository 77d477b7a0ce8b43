"""What a run leaves on disk: overlays, label PNGs, JSON records, and the names they go by."""

from .image_files import ImageFile, find_images
from .label_png import save_label_png
from .overlay import draw_overlay
from .palette import BACKGROUND_COLOR, class_colors
from .records import FORMAT_VERSION, RunReport, image_record
from .run_folder import OUTPUT_KINDS, RunFolder

__all__ = [
    "BACKGROUND_COLOR",
    "FORMAT_VERSION",
    "OUTPUT_KINDS",
    "ImageFile",
    "RunFolder",
    "RunReport",
    "class_colors",
    "draw_overlay",
    "find_images",
    "image_record",
    "save_label_png",
]
