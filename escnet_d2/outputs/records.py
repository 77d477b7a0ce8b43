"""The contents of the JSON files; docs/demo.md describes each field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from escnet_d2.structures import Segmentation
from escnet_d2.structures.run_lengths import class_rles
from escnet_d2.version import __version__

from .regions import class_areas, mean_scores

# Goes up when a field changes its meaning or disappears.
FORMAT_VERSION = 1


def image_record(
    segmentation: Segmentation, *, file: str, settings: Mapping[str, object]
) -> dict[str, object]:
    """Describes the result for one image.

    Args:
        segmentation: labels and scores (H, W).
        file: the image as the user named it.
        settings: plain data that says how the labels came about: config, weights, vocabulary.

    Returns:
        Plain data for JSON: ``classes`` holds the classes present, largest first, with area in
        pixels, fraction of the image and mean score in [0, 1], and COCO run lengths.
    """
    labels, names = segmentation.labels, segmentation.class_names
    areas = class_areas(labels, len(names))
    scores = mean_scores(labels, segmentation.scores, len(names))
    rles = class_rles(labels)
    classes = [
        {
            "index": index,
            "name": names[index],
            "area": int(areas[index]),
            "area_fraction": float(areas[index] / labels.size),
            # Rounding in float32 may end a hair outside.
            "score": round(min(max(float(scores[index]), 0.0), 1.0), 6),
            "rle": rles[index],
        }
        for index in sorted(rles, key=lambda index: (-areas[index], index))
    ]
    return {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "file": file,
        "width": labels.shape[1],
        "height": labels.shape[0],
        **settings,
        "class_names": list(names),
        "classes": classes,
    }


def run_summary(
    *,
    state: str,
    settings: Mapping[str, object],
    class_names: Sequence[str],
    counts: Mapping[str, int],
    class_areas: np.ndarray,
    class_images: np.ndarray,
    failures: Sequence[tuple[str, str]],
    seconds: float,
) -> dict[str, object]:
    """Describes a run over many images.

    Args:
        state: ``running``, ``complete`` or ``interrupted``.
        settings: as in :func:`image_record`.
        class_names: the K output classes.
        counts: numbers of images by what became of them.
        class_areas: (K,) pixels of each class over all images with a result.
        class_images: (K,) images in which each class occurs.
        failures: (file, reason) of the images without a result.
        seconds: of wall-clock time.

    Returns:
        Plain data for JSON.
    """
    total = max(int(class_areas.sum()), 1)
    return {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "state": state,
        **settings,
        "counts": dict(counts),
        "seconds": round(seconds, 3),
        "classes": [
            {
                "index": index,
                "name": name,
                "area": int(class_areas[index]),
                "area_fraction": int(class_areas[index]) / total,
                "images": int(class_images[index]),
            }
            for index, name in enumerate(class_names)
        ],
        "failures": [{"file": file, "reason": reason} for file, reason in failures],
    }
