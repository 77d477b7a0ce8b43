"""Sources of the errors on things: wrong names, wrong masks, or both.

Shapes: H x W pixels of a scene, K classes.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from .group_scores import group_miou
from .world import CLASSES, STUFF

# Labels below are stuff, the others things.
_FIRST_THING = len(STUFF)


class ErrorSources:
    """Counts over scenes what becomes of the pixels of things."""

    def __init__(self) -> None:
        """Starts from nothing."""
        self._pixels: Counter[str] = Counter()
        self._voted = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)

    def add(self, prediction: np.ndarray, labels: np.ndarray, instances: np.ndarray) -> None:
        """Counts one scene.

        Args:
            prediction: index into ``CLASSES`` of each pixel, integers (H, W).
            labels: the truth, same form.
            instances: which object a pixel belongs to, integers (H, W), 0 on stuff.
        """
        is_thing = labels >= _FIRST_THING
        called_thing = prediction >= _FIRST_THING
        wrong = is_thing & (prediction != labels)
        wrong_name = wrong & called_thing
        in_scene = np.isin(prediction, labels)
        voted, outvoted = _majority_vote(prediction, instances, is_thing & called_thing)
        self._pixels.update(
            {
                "things": int(is_thing.sum()),
                "right": int((is_thing & ~wrong).sum()),
                "called ground": int((wrong & ~called_thing).sum()),
                "another thing of the scene": int((wrong_name & in_scene).sum()),
                "a thing not in the scene": int((wrong_name & ~in_scene).sum()),
                "outvoted in its object": outvoted,
            }
        )
        np.add.at(self._voted, (labels, voted), 1)

    def shares(self) -> dict[str, float]:
        """Shares of the pixels of things, in percent.

        ``right``, ``called ground``, ``another thing of the scene`` and ``a thing not in the
        scene`` sum to 100. ``outvoted in its object`` are those that are called a thing, but
        another one than most such pixels of their object: a mask of the object could fix them.

        Raises:
            ValueError: no pixel of a thing was counted.
        """
        total = self._pixels["things"]
        if not total:
            raise ValueError("No scene with things was counted.")
        return {name: 100 * n / total for name, n in self._pixels.items() if name != "things"}

    def voted_miou(self) -> dict[str, float]:
        """:func:`group_miou`, in percent, if each object had the name of its majority.

        The pixels of an object that are called stuff stay as they are.
        """
        found = np.diag(self._voted)
        truth = self._voted.sum(axis=1)
        union = truth + self._voted.sum(axis=0) - found
        return group_miou(
            {
                name: 100 * float(f) / float(u) if t else None
                for name, f, t, u in zip(CLASSES, found, truth, union)
            }
        )


def _majority_vote(
    prediction: np.ndarray, instances: np.ndarray, voters: np.ndarray
) -> tuple[np.ndarray, int]:
    """The prediction with each object's voters renamed to their commonest class; how many changed.

    Of two classes with equally many voters the first one wins.
    """
    voted = prediction.copy()
    for instance in np.unique(instances[voters]):
        members = voters & (instances == instance)
        voted[members] = np.bincount(prediction[members]).argmax()
    return voted, int((voted != prediction).sum())
