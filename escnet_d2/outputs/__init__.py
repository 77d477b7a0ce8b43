"""What a run leaves on disk: overlays, label PNGs, JSON records, and the names they go by."""

from .image_files import ImageFile, ImageList, find_images
from .label_png import ignore_label, save_label_png
from .overlay import draw_overlay
from .palette import BACKGROUND_COLOR, class_colors
from .records import FORMAT_VERSION, image_record, run_summary
from .regions import class_areas, mean_scores
from .run_log import RunLog, source_stamp
from .writer import OUTPUT_KINDS, OutputWriter, check_output_options

__all__ = [
    "BACKGROUND_COLOR",
    "FORMAT_VERSION",
    "OUTPUT_KINDS",
    "ImageFile",
    "ImageList",
    "OutputWriter",
    "RunLog",
    "check_output_options",
    "class_areas",
    "class_colors",
    "draw_overlay",
    "find_images",
    "ignore_label",
    "image_record",
    "mean_scores",
    "run_summary",
    "save_label_png",
    "source_stamp",
]
