"""Vocabularies from data-set metadata, class lists, names and plain text."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog

from escnet_d2.structures import Vocabulary
from escnet_d2.structures.vocabulary import (
    DEFAULT_BACKGROUND_WORDS,
    classes_from_text,
    read_classes,
    split_names,
)

from .class_lists import (
    CLASS_LIST_SUFFIXES,
    CLASS_LIST_VARIANTS,
    bundled_class_lists,
    class_list_variant,
    find_class_list,
    read_class_list,
)
from .typed_names import clean_classes, warn_of_unlikely_text

logger = logging.getLogger(__name__)


def vocabulary_of_dataset(
    dataset_name: str, *, override: str = "", synonyms: str = "first"
) -> Vocabulary:
    """Returns the vocabulary that a registered data set is trained or evaluated with.

    It has no background option: a data set's classes are what its labels hold. PAS-20b's 59 text
    entries share 21 classes by its metadata.

    Args:
        dataset_name: a name in Detectron2's catalogs whose metadata hold ``stuff_classes``.
        override: a class list used instead of the data set's own names (``VOCABULARY.TRAIN`` and
            ``.TEST``): a file or the name of a bundled list, with one line per text entry; or a
            release (``catseg``, ``san``, ``fcclip``, ``mess``), whose own list for the data set's
            benchmark is then used.
        synonyms: what further names of a class do: ``first``, ``mean`` or ``max``.

    Raises:
        ValueError: no such data set, ``override`` has another number of classes, or the release it
            names has no list for this benchmark.
        FileNotFoundError: ``override`` does not exist.
    """
    if not _is_dataset(dataset_name):
        known = sorted(name for name in MetadataCatalog.list() if _is_dataset(name))
        raise ValueError(
            f"No semantic-segmentation data set is registered as {dataset_name!r}. "
            f"Registered: {', '.join(known)}."
        )
    metadata = MetadataCatalog.get(dataset_name)
    classes: Sequence[str] = metadata.stuff_classes
    mapping = metadata.get("vocabulary_to_class")
    names = classes if mapping is None else metadata.vocabulary_classes
    if override in CLASS_LIST_VARIANTS:
        override = class_list_variant(metadata.get("class_list", ""), override)
    if override:
        names, own_names = read_class_list(override), names
        if len(names) != len(own_names):
            raise ValueError(
                f"The class list {override} has {len(names)} classes, but the data set "
                f"{dataset_name} needs {len(own_names)}."
            )
    vocabulary = Vocabulary.from_classes(names, synonyms=synonyms)
    if mapping is None:
        return vocabulary
    return Vocabulary(
        entries=vocabulary.entries,
        entry_classes=tuple(mapping[entry] for entry in vocabulary.entry_classes),
        class_names=tuple(classes),
    )


def resolve_vocabulary(
    spec: Vocabulary | Sequence[str | Sequence[str]] | str | os.PathLike,
    *,
    synonyms: str = "first",
    background: str = "none",
    background_words: Sequence[str] = DEFAULT_BACKGROUND_WORDS,
    background_threshold: float = 0.5,
) -> Vocabulary:
    """Turns what a user may write for a vocabulary into one.

    A string is tried in this order, and the choice is logged:

    1. the path of an existing class list, text or JSON;
    2. the name of a registered data set, such as ``coco_mini_val``;
    3. the name of a bundled class list (``ade150``, ``voc20``, ...), also as a path that does not
       exist (``datasets/ade150.json``);
    4. any other string without comma or ``|`` but with a path separator or a suffix, any that ends
       in ``.txt`` or ``.json``, and a folder are taken for a missing file, which is an error;
    5. text: ``"couch|sofa, dog, grass"``, commas or line ends between classes, ``|`` between
       synonyms, or a JSON list.

    A class that is called like a data set, list or folder is written with a comma (``"coco,"``) or
    in a list of names. Names that a user wrote, as opposed to those of data sets and bundled lists,
    are cleaned and merged where they are the same, and what looks like a mistake is warned of.

    Args:
        spec: a vocabulary (returned as it is), a sequence of class names, a path or a string.
        synonyms: as all further options, see ``Vocabulary.from_classes``.
        background: see there.
        background_words: see there.
        background_threshold: see there.

    Raises:
        FileNotFoundError: ``spec`` is the path of a missing file.
        TypeError: another kind of object, such as a set, which has no order.
        ValueError: empty names, an unknown option value, or a file that is not a class list.
    """
    if isinstance(spec, Vocabulary):
        return spec
    if isinstance(spec, str) and _is_dataset(spec) and not Path(spec).is_file():
        logger.info("The vocabulary %r is the data set's class list.", spec)
        metadata = MetadataCatalog.get(spec)
        if metadata.get("vocabulary_to_class") is not None:
            if background != "none":
                raise ValueError(
                    f"The data set {spec} has a background class: use background='none'."
                )
            return vocabulary_of_dataset(spec, synonyms=synonyms)
        classes = metadata.stuff_classes
    else:
        classes, is_typed = _classes_of(spec, has_background=background != "none")
        if is_typed:
            classes = clean_classes(classes, synonyms=synonyms)
    return Vocabulary.from_classes(
        classes,
        synonyms=synonyms,
        background=background,
        background_words=background_words,
        background_threshold=background_threshold,
    )


def _classes_of(
    spec: Sequence[str | Sequence[str]] | str | os.PathLike, *, has_background: bool
) -> tuple[list[tuple[str, ...]], bool]:
    """Returns the names of each class, and True unless they are of a bundled list."""
    if isinstance(spec, (list, tuple)):
        return [split_names(item) for item in spec], True
    if not isinstance(spec, (str, os.PathLike)):
        raise TypeError(
            "A vocabulary is a string, a path, a list or tuple of class names, or a Vocabulary, "
            f"not {type(spec).__name__}."
        )
    text = os.fspath(spec)
    path = find_class_list(spec)
    if path is not None:
        logger.info("The vocabulary %r is the class list %s.", text, path)
        classes = read_classes(path)
        if path != Path(text).expanduser():
            return classes, False
    # A path object names a file, never classes.
    elif not isinstance(spec, str) or _looks_like_path(text):
        raise FileNotFoundError(
            f"The class list {text} does not exist, or is not a file. Give a file, a registered "
            f"data set, a bundled list ({', '.join(bundled_class_lists())}) or class names with "
            "commas between them, also behind a single one."
        )
    else:
        classes = classes_from_text(text)
    if classes:
        known = [name for name in MetadataCatalog.list() if _is_dataset(name)]
        warn_of_unlikely_text(
            classes,
            text,
            [*known, *bundled_class_lists()],
            is_file=path is not None,
            has_background=has_background,
        )
    return classes, True


def _is_dataset(name: str) -> bool:
    # MetadataCatalog.get creates what it does not find, so ask first.
    return name in MetadataCatalog and bool(MetadataCatalog.get(name).get("stuff_classes"))


def _looks_like_path(text: str) -> bool:
    text = text.strip()
    if text.lower().endswith(CLASS_LIST_SUFFIXES) or os.path.isdir(text):
        return True
    if any(mark in text for mark in ",|\n"):
        return False
    has_suffix = re.search(r"\S\.[A-Za-z]\w{1,4}$", text) is not None
    return has_suffix or any(mark in text for mark in (os.sep, os.altsep) if mark)
