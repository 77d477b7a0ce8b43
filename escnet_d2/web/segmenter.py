"""What the page does, without the page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from escnet_d2.config import synonym_mode
from escnet_d2.data import resolve_vocabulary
from escnet_d2.engine import OpenVocabPredictor
from escnet_d2.io import read_image
from escnet_d2.outputs import SegmentedImage
from escnet_d2.structures.vocabulary import classes_from_text

MAX_CLASSES = 1000


class PhotoSegmenter:
    """Segments photos as the page asks for them."""

    def __init__(self, predictor: OpenVocabPredictor) -> None:
        """Takes the one model that the page has."""
        self._predictor = predictor

    def segment(
        self, photo: str | os.PathLike | None, names: str, background: str, threshold: float
    ) -> SegmentedImage:
        """Segments a photo.

        Args:
            photo: a file; None where the page has none.
            names: of the classes, as text. Unlike elsewhere it never names a file: visitors of a
                page must not read those of its machine.
            background: ``none``, ``words`` or ``threshold``.
            threshold: score in [0, 1] below which a pixel is background.

        Raises:
            ValueError: no photo or one that can't be read, no class names, or too many.
        """
        if photo is None:
            raise ValueError("Add a photo first.")
        classes = classes_from_text(names)
        if not classes:
            raise ValueError("Type what to look for, such as: person, dog|puppy, grass")
        if len(classes) > MAX_CLASSES:
            raise ValueError(
                f"{len(classes):,} classes are more than the {MAX_CLASSES:,} that this page takes; "
                "escnet-d2 segment takes any number."
            )
        options = self._predictor.cfg.VOCABULARY
        vocabulary = resolve_vocabulary(
            classes,
            synonyms=synonym_mode(self._predictor.cfg),
            background=background,
            background_words=options.BACKGROUND_WORDS,
            background_threshold=threshold,
        )
        try:
            pixels = read_image(photo)
        except ValueError as error:
            # Where the page keeps the file means nothing to its visitors.
            raise ValueError(f"{Path(photo).name} is not a picture that can be read.") from error
        return self._predictor(pixels, vocabulary)


def shown_overlay(
    result: SegmentedImage, shown: Collection[str], opacity: float
) -> tuple[SegmentedImage, Image.Image]:
    """Draws some of the classes of a result; the others turn gray.

    Args:
        result: of :meth:`PhotoSegmenter.segment`.
        shown: names of classes.
        opacity: of the colors, in [0, 1].

    Returns:
        What is left of the result, and its overlay without a legend.
    """
    hidden = [index for index, name in enumerate(result.class_names) if name not in shown]
    labels = np.where(np.isin(result.labels, hidden), np.int32(-1), result.labels)
    left = dataclasses.replace(result, labels=labels)
    return left, left.overlay(opacity=opacity, with_legend=False)


def write_downloads(
    folder: Path, result: SegmentedImage, shown: SegmentedImage, opacity: float
) -> list[str]:
    """Writes label PNG and JSON record of a result, and the overlay of what is shown of it.

    Returns:
        The paths.
    """
    result.save(folder / "labels.png")
    result.save(folder / "result.json")
    shown.overlay(opacity=opacity).save(folder / "overlay.png")
    return [str(folder / name) for name in ("labels.png", "overlay.png", "result.json")]
