"""All outputs of one image, each in its folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from escnet_d2.io import atomic_path, write_json
from escnet_d2.structures import Segmentation

from .image_files import ImageFile
from .label_png import save_label_png
from .overlay import draw_overlay
from .records import image_record
from .regions import class_areas

# Kind of output to its folder.
OUTPUT_KINDS = {"overlay": "overlays", "labels": "labels", "json": "json"}
# Photos stay small as JPEG; everything else keeps its crisp edges as PNG.
_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
_JPEG_QUALITY = 92


def check_output_options(kinds: Collection[str], opacity: float) -> None:
    """Refuses an unknown kind of output or none, and an opacity outside [0, 1] (ValueError)."""
    if set(kinds) - set(OUTPUT_KINDS) or not kinds:
        raise ValueError(
            f"Outputs must be some of {', '.join(OUTPUT_KINDS)}, got {', '.join(kinds)!r}."
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0, 1], got {opacity}.")


class OutputWriter:
    """Writes overlays, label PNGs and JSON records under one folder; safe to call from threads."""

    def __init__(
        self,
        output_dir: str | os.PathLike,
        *,
        colors: np.ndarray,
        settings: Mapping[str, object],
        kinds: Iterable[str] = tuple(OUTPUT_KINDS),
        opacity: float = 0.5,
    ) -> None:
        """Makes a writer.

        Args:
            output_dir: the folder; made when something is written.
            colors: (K, 3) uint8, RGB, one per output class.
            settings: plain data that goes into every record: config, weights, vocabulary.
            kinds: what to write, of :data:`OUTPUT_KINDS`.
            opacity: of the colours in overlays, in [0, 1].

        Raises:
            ValueError: an unknown kind or none, or an opacity out of range.
        """
        self.kinds = tuple(kinds)
        check_output_options(self.kinds, opacity)
        self.output_dir = Path(output_dir)
        self._colors = colors
        self._settings = dict(settings)
        self._opacity = opacity

    def paths(self, image: ImageFile) -> dict[str, Path]:
        """Where the wanted outputs of an image go, by kind."""
        is_jpeg = image.path.suffix.lower() in _JPEG_SUFFIXES
        suffixes = {"overlay": ".jpg" if is_jpeg else ".png", "labels": ".png", "json": ".json"}
        return {
            # Not with_suffix: names may have dots of their own.
            kind: self.output_dir / OUTPUT_KINDS[kind] / (image.name + suffixes[kind])
            for kind in self.kinds
        }

    def write(
        self, image: ImageFile, pixels: np.ndarray, segmentation: Segmentation
    ) -> dict[int, int]:
        """Writes the wanted outputs of one image, each atomically.

        Args:
            image: the image.
            pixels: (H, W, 3) uint8, RGB.
            segmentation: labels and scores (H, W).

        Returns:
            Area in pixels by class index, of the classes present.

        Raises:
            OSError: something cannot be written.
            ValueError: labels, scores and image do not fit together.
        """
        paths = self.paths(image)
        if "overlay" in paths:
            _save_overlay(
                paths["overlay"],
                draw_overlay(pixels, segmentation, colors=self._colors, opacity=self._opacity),
            )
        if "labels" in paths:
            save_label_png(paths["labels"], segmentation.labels, self._colors)
        if "json" in paths:
            record = image_record(segmentation, file=str(image.path), settings=self._settings)
            write_json(paths["json"], record)
        areas = class_areas(segmentation.labels, len(self._colors))
        return {int(index): int(areas[index]) for index in np.flatnonzero(areas)}


def _save_overlay(path: Path, overlay: Image.Image) -> None:
    with atomic_path(path) as temporary:
        if path.suffix == ".jpg":
            overlay.save(temporary, format="JPEG", quality=_JPEG_QUALITY)
        else:
            overlay.save(temporary, format="PNG")
