"""A segmentation that knows its image, and so can be looked at, saved and handed on."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from escnet_d2.io import ImageInput, image_pixels, write_json
from escnet_d2.structures import Segmentation

from .label_png import save_label_png
from .overlay import draw_overlay
from .palette import class_colors
from .records import image_record

if TYPE_CHECKING:
    import supervision


@dataclass(frozen=True)
class SegmentedImage(Segmentation):
    """What a predictor returns for one image; notebooks show its overlay.

    Attributes:
        image: what was segmented, a path, a PIL image or an array; read again where it is drawn.
    """

    image: ImageInput

    def overlay(
        self, *, opacity: float = 0.5, side_by_side: bool = False, with_legend: bool = True
    ) -> Image.Image:
        """Draws the image in the colors of its classes, see :func:`draw_overlay`.

        Raises:
            ValueError: the image can't be read or has another size by now.
        """
        return draw_overlay(
            image_pixels(self.image),
            self,
            colors=class_colors(self.class_names),
            opacity=opacity,
            side_by_side=side_by_side,
            with_legend=with_legend,
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the result as the demo does: class indices (.png), or a record with masks (.json).

        For a picture use ``overlay().save(path)``.

        Raises:
            ValueError: another suffix, such as .jpg, which would change labels.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".png":
            save_label_png(path, self.labels, class_colors(self.class_names))
        elif suffix == ".json":
            is_path = isinstance(self.image, (str, os.PathLike))
            file = os.fspath(self.image) if is_path else ""
            write_json(path, image_record(self, file=file, settings={}))
        else:
            raise ValueError(
                f"{os.fspath(path)}: results are saved as .png (labels) or .json (record); for a "
                "picture use overlay().save(...)."
            )

    def to_supervision(self) -> supervision.Detections:
        """Converts to ``supervision.Detections``: a mask, mean score and name per class present.

        Raises:
            ImportError: supervision is not installed.
        """
        from supervision import Detections, mask_to_xyxy

        present = np.flatnonzero(self.class_areas())
        masks = np.stack([self.labels == index for index in present]) if len(present) else None
        if masks is None:
            return Detections.empty()
        names = np.array([self.class_names[index] for index in present])
        return Detections(
            xyxy=mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            confidence=self.mean_scores()[present].astype(np.float32),
            class_id=present,
            data={"class_name": names},
        )

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.overlay().save(buffer, format="PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class SegmentedFrame(SegmentedImage):
    """The result for one frame of a video.

    Attributes:
        number: among all frames of the video, from 0.
        seconds: since its first frame.
    """

    number: int
    seconds: float
