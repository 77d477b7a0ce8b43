"""Files in and out: photos, videos, label images, and files that appear whole or not at all."""

from .atomic import TEMPORARY_FILES, atomic_path, atomic_text, write_json, write_text
from .images import (
    DECODING_ERRORS,
    HEIF_SUFFIXES,
    IMAGE_SUFFIXES,
    ImageInput,
    image_pixels,
    read_image,
    to_rgb,
)
from .labels import read_label_map
from .videos import Frame, VideoReader, VideoSource, VideoWriter

__all__ = [
    "DECODING_ERRORS",
    "Frame",
    "HEIF_SUFFIXES",
    "IMAGE_SUFFIXES",
    "ImageInput",
    "TEMPORARY_FILES",
    "VideoReader",
    "VideoSource",
    "VideoWriter",
    "atomic_path",
    "atomic_text",
    "image_pixels",
    "read_image",
    "read_label_map",
    "to_rgb",
    "write_json",
    "write_text",
]
