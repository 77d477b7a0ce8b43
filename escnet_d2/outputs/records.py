"""The contents of the JSON files; docs/demo.md describes each field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from escnet_d2.structures import Segmentation
from escnet_d2.structures.run_lengths import class_rles
from escnet_d2.version import __version__

# Goes up when a field changes its meaning or disappears.
FORMAT_VERSION = 2


def image_record(
    segmentation: Segmentation, *, file: str, settings: Mapping[str, object]
) -> dict[str, object]:
    """Describes the result for one image.

    Args:
        segmentation: labels and scores (H, W).
        file: the image as the user named it.
        settings: plain data that says how the labels came about: config, weights.

    Returns:
        Plain data for JSON: ``classes`` holds the classes present, largest first, with area in
        pixels, fraction of the image and mean score in [0, 1], and COCO run lengths.
    """
    labels, names = segmentation.labels, segmentation.class_names
    areas, scores = segmentation.class_areas(), segmentation.mean_scores()
    rles = class_rles(labels)
    return {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "file": file,
        "width": labels.shape[1],
        "height": labels.shape[0],
        **settings,
        "class_names": list(names),
        "classes": [
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
        ],
    }


@dataclass
class RunReport:
    """The images of a run by their outcome, and the classes found in them.

    Attributes:
        class_names: the K output classes.
        num_found: images that the run was given.
        num_ignored: files among the inputs that are not images.
        num_done: images segmented and written by this run.
        num_skipped: images whose outputs were there.
        failures: (file, reason) of the images without a result.
        state: ``running``, ``complete`` or ``interrupted``.
        seconds: of wall-clock time.
        class_areas: (K,) int64, pixels of each class over the images done and skipped.
        class_images: (K,) int64, how many of these images show each class.
    """

    class_names: Sequence[str]
    num_found: int
    num_ignored: int = 0
    num_done: int = 0
    num_skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    state: str = "running"
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.class_areas = np.zeros(len(self.class_names), np.int64)
        self.class_images = np.zeros(len(self.class_names), np.int64)

    def __str__(self) -> str:
        """Returns one line for people."""
        return (
            f"{self.num_done} of {self.num_found} images done, {self.num_skipped} skipped, "
            f"{len(self.failures)} failed, in {self.seconds:.1f} s"
        )

    def add_areas(self, areas: np.ndarray) -> None:
        """Counts one image's classes; ``areas`` holds the pixels of each, (K,)."""
        self.class_areas += areas
        self.class_images += areas > 0

    def as_dict(self) -> dict[str, Any]:
        """Returns all that the report holds as plain data for JSON, see :meth:`merge`."""
        arrays = ("class_areas", "class_images")
        return {**asdict(self), **{name: getattr(self, name).tolist() for name in arrays}}

    @classmethod
    def merge(cls, parts: Sequence[Mapping[str, Any]], count: int) -> RunReport:
        """Adds up the reports of the processes that share a run.

        Args:
            parts: of :meth:`as_dict`, one or more.
            count: how many there will be; the run is complete when all are there and complete.
        """
        merged = cls(parts[0]["class_names"], 0)
        for name in ("num_found", "num_ignored", "num_done", "num_skipped"):
            setattr(merged, name, sum(part[name] for part in parts))
        for name in ("class_areas", "class_images"):
            setattr(merged, name, np.sum([part[name] for part in parts], axis=0, dtype=np.int64))
        merged.failures = [tuple(failure) for part in parts for failure in part["failures"]]
        merged.seconds = max(part["seconds"] for part in parts)
        states = {part["state"] for part in parts} | ({"running"} if len(parts) < count else set())
        merged.state = next(s for s in ("running", "interrupted", "complete") if s in states)
        return merged

    def summary(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Returns plain data for JSON; ``settings`` as in :func:`image_record`."""
        total = max(int(self.class_areas.sum()), 1)
        reached = self.num_done + self.num_skipped + len(self.failures)
        return {
            "format_version": FORMAT_VERSION,
            "version": __version__,
            "state": self.state,
            **settings,
            "counts": {
                "found": self.num_found,
                "done": self.num_done,
                "skipped": self.num_skipped,
                "failed": len(self.failures),
                "not_reached": self.num_found - reached,
                "ignored_files": self.num_ignored,
            },
            "seconds": round(self.seconds, 3),
            "classes": [
                {
                    "index": index,
                    "name": name,
                    "area": int(self.class_areas[index]),
                    "area_fraction": int(self.class_areas[index]) / total,
                    "images": int(self.class_images[index]),
                }
                for index, name in enumerate(self.class_names)
            ],
            "failures": [{"file": file, "reason": reason} for file, reason in self.failures],
        }
