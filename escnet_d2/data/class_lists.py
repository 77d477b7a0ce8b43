"""Files that list class names: the user's own and those bundled with the package.

A class list has one class per line, further names of the class after commas. The bundled lists hold
the names that published open-vocabulary results were measured with. Where releases name the classes
of one benchmark differently, each has a list, and ``CLASS_LIST_VARIANTS`` says which release uses
which.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from escnet_d2.structures import Vocabulary

logger = logging.getLogger(__name__)

CLASS_LIST_SUFFIXES = (".txt", ".json")
# By release, the list that it uses for each family: the list that CAT-Seg and SED evaluate with, or
# the only one. "mess" means MESS's copies of these benchmarks, not its 22 data sets.
_CATSEG = {name: name for name in ("coco", "ade150", "ade847", "pc59", "pc459", "voc20", "voc20b")}
_SHARED = {name: name for name in ("coco", "ade847", "pc59")}
CLASS_LIST_VARIANTS = {
    "catseg": _CATSEG,
    "san": {
        **_SHARED,
        "ade150": "ade150_detectron2",
        "pc459": "pc459_spaced",
        "voc20": "voc20_san",
    },
    "mess": {**_SHARED, "ade150": "ade150_detectron2", "pc459": "pc459", "voc20": "voc20"},
    "fcclip": {
        name: f"{name}_fcclip"
        for name in ("coco", "coco_panoptic", "ade150", "ade847", "pc59", "pc459", "voc20", "voc21")
    },
}
_BUNDLED_DIR = Path(__file__).parent / "datasets" / "class_names"


def bundled_class_lists() -> tuple[str, ...]:
    """Lists the names of the class lists that come with the package, such as ``ade150``."""
    return tuple(sorted(path.stem for path in _BUNDLED_DIR.glob("*.txt")))


def find_class_list(spec: str | os.PathLike) -> Path | None:
    """Finds the file that a class-list setting means.

    Args:
        spec: a path; or the name of a bundled list (``ade150``); or a path that does not exist but
            whose file name is that of a bundled list, so that the ``datasets/ade150.json`` of
            CAT-Seg and SED command lines works in any directory.

    Returns:
        The existing file, or None.
    """
    path = Path(spec).expanduser()
    if _is_file(path):
        return path
    is_list_file = path.suffix.lower() in CLASS_LIST_SUFFIXES
    if str(spec) != path.name and not is_list_file:
        return None
    stem = path.stem if is_list_file else path.name
    if stem.lower() not in bundled_class_lists():
        return None
    if is_list_file:
        logger.info("%s does not exist: using the bundled class list %r.", spec, stem.lower())
    return _BUNDLED_DIR / f"{stem.lower()}.txt"


def class_list_variant(family: str, variant: str) -> str:
    """Finds the bundled list that a release names the classes of a benchmark by.

    Args:
        family: ``class_list`` in a benchmark's metadata, such as ``ade847``.
        variant: a key of ``CLASS_LIST_VARIANTS``, such as ``fcclip``.

    Raises:
        ValueError: the release has no list for this benchmark.
    """
    lists = CLASS_LIST_VARIANTS[variant]
    if family not in lists:
        raise ValueError(
            f"There is no {variant!r} class list for {family or 'this data set'!r}: "
            f"it has lists for {', '.join(lists)}."
        )
    return lists[family]


def read_class_list(spec: str | os.PathLike | Sequence[str | Sequence[str]]) -> tuple[str, ...]:
    """Reads a class list, one string per class with its synonyms joined by ``", "``.

    Args:
        spec: as in :func:`find_class_list`, a file of the formats of ``Vocabulary.from_file``; or
            the names themselves.

    Raises:
        FileNotFoundError: there is no such file or bundled list.
        ValueError: the file is not a class list (it is named), empty or duplicate names, or a
            comma in a name.
    """
    if not isinstance(spec, (str, os.PathLike)):
        return _class_strings(Vocabulary.from_classes(spec, synonyms="mean"))
    path = find_class_list(spec)
    if path is None:
        raise FileNotFoundError(
            f"Class list {spec} does not exist. Give a text or JSON file, or one of the bundled "
            f"lists: {', '.join(bundled_class_lists())}."
        )
    return _class_strings(Vocabulary.from_file(path, synonyms="mean"))


def _class_strings(vocabulary: Vocabulary) -> tuple[str, ...]:
    # Under "mean" there is one entry per class, with all of its names.
    for name in (name for names in vocabulary.entries for name in names):
        if "," in name:
            raise ValueError(f"Classes of data sets have commas between names, not in {name!r}.")
    return tuple(", ".join(names) for names in vocabulary.entries)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # A long inline vocabulary is not a valid file name (ENAMETOOLONG).
        return False
