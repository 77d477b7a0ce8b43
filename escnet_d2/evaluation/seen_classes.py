"""Classes of a data set that the model was trained on, judged by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence


def match_seen_classes(class_names: Sequence[str], training_classes: Sequence[str]) -> list[bool]:
    """Marks the classes that share a name with the training vocabulary.

    A class is seen when any of its names equals any name of any training class. Names are separated
    by a comma or ``|``; upper case and white space make no difference, so that "TV monitor" equals
    "tvmonitor". Nothing else is equated: "couch" is not "sofa" unless one of the lists says so.

    Args:
        class_names: the data set's classes, e.g. "couch, sofa".
        training_classes: the classes of the training vocabulary, written in the same way.

    Returns:
        One flag per class of the data set.

    Raises:
        ValueError: one string instead of a sequence of names.
    """
    for names in (class_names, training_classes):
        if isinstance(names, str):
            raise ValueError(f"Expected a sequence of class names, got the string {names!r}.")
    known = {key for name in training_classes for key in _name_keys(name)}
    return [not known.isdisjoint(_name_keys(name)) for name in class_names]


def _name_keys(name: str) -> set[str]:
    """The names of one class in the form in which they are compared."""
    keys = {"".join(part.split()).casefold() for part in re.split(r"[,|]", name)}
    return keys - {""}
