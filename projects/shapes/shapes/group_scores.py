"""Scores of the groups that the data set ``shapes`` asks about."""

from __future__ import annotations

from collections.abc import Mapping

from .world import SEEN_THINGS, STUFF, UNSEEN_THINGS

GROUPS = {
    "stuff": STUFF,
    "seen things": tuple(thing.name for thing in SEEN_THINGS),
    "unseen things": tuple(thing.name for thing in UNSEEN_THINGS),
}


def group_miou(iou: Mapping[str, float | None]) -> dict[str, float]:
    """Mean IoU of each group, and the harmonic mean of seen and unseen things.

    Args:
        iou: of each class by name; None, for a class that neither occurs nor is predicted, is left
            out of the mean.

    Returns:
        ``stuff``, ``seen things``, ``unseen things`` and ``harmonic mean``, on the scale of
        ``iou``; 0 for a group without any class.
    """
    scores = {}
    for group, names in GROUPS.items():
        values = [iou[name] for name in names if iou.get(name) is not None]
        scores[group] = sum(values) / len(values) if values else 0.0
    seen, unseen = scores["seen things"], scores["unseen things"]
    total = seen + unseen
    scores["harmonic mean"] = 2 * seen * unseen / total if total else 0.0
    return scores
