"""Class names that a user typed: cleaned, merged where they are the same, and doubts told."""

from __future__ import annotations

import difflib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from escnet_d2.structures.vocabulary import short

Classes = list[tuple[str, ...]]

# Other separators than the one between classes.
_SEPARATORS = {
    ";": "semicolons",
    "\t": "tabs",
    "\uff0c": "full-width commas",
    "\uff1b": "full-width semicolons",
    "\u3001": "ideographic commas",
    "\u060c": "Arabic commas",
}
# How names begin that were cut out of a numbered list, a table, Markdown, YAML or Python.
_LIST_MARK = re.compile(r"""\d+(\s*[.:)]\s|$)|[-+*\u2022]\s|["'\u201c\u2018\u00ab(\[{<]""")

logger = logging.getLogger(__name__)


def clean_classes(classes: Sequence[Sequence[str]], *, synonyms: str) -> Classes:
    """Removes invisible characters and merges classes of the same names, with a warning for each.

    Names are the same if they agree after NFKC, case folding and white space. Names that several
    classes still share are warned of too: their classes split pixels by rounding.

    Args:
        classes: the names of each class.
        synonyms: as in ``Vocabulary.from_classes``; under "first" only first names are compared.

    Raises:
        ValueError: a name without a visible character, or of bytes that are not UTF-8.
    """
    changed, repeated = [], []
    merged: dict[frozenset, tuple[str, ...]] = {}
    for names in classes:
        unique: dict[str, str] = {}
        for name in names:
            visible = _without_invisible(name)
            if any(unicodedata.category(char) == "Cs" for char in name):
                raise ValueError(f"The class name {short(name)} is not UTF-8 text: type it again.")
            if not visible:
                raise ValueError(f"The class name {short(name)} has no visible character.")
            if visible != name:
                changed.append(visible)
            if _key(visible) in unique:
                repeated.append(visible)
            unique.setdefault(_key(visible), visible)
        if frozenset(unique) in merged:
            repeated.append(next(iter(unique.values())))
        merged.setdefault(frozenset(unique), tuple(unique.values()))
    _warn("Removed invisible characters from: %s.", changed)
    _warn("Merged names that are the same but for case, width or spaces: %s.", repeated)

    read = [names[:1] if synonyms == "first" else names for names in merged.values()]
    counts = Counter(_key(name) for names in read for name in names)
    shared = {_key(name): name for names in read for name in names if counts[_key(name)] > 1}
    _warn("A name of several classes, of which only rounding tells: %s.", shared.values())
    if synonyms == "first":
        _warn(
            "Of each class only the first name is read, not %s: VOCABULARY.SYNONYMS max or mean "
            "(--synonyms) reads all of them.",
            [name for names in merged.values() for name in names[1:]],
        )
    return list(merged.values())


def warn_of_unlikely_text(
    classes: Classes, text: str, known: Iterable[str], *, is_file: bool, has_background: bool
) -> None:
    """Warns of text or a file that makes other classes than its author will have meant.

    Args:
        classes: as they were read.
        text: what was typed: class names, or the path of a file.
        known: names of data sets and class lists, one of which may be misspelled.
        is_file: a class list was read.
        has_background: a background class will be added.
    """
    cure = "put each class on a line of its own" if is_file else "separate classes by commas"
    for mark, name in _SEPARATORS.items():
        odd = [names[0] for names in classes if any(mark in each for each in names)]
        _warn(f"Names hold {name}, not several classes: %s; {cure}.", odd)
    _warn(
        "CLIP will read the number, bullet, quote or bracket that names begin with: %s; write the "
        "names alone.",
        [name for names in classes for name in names if _LIST_MARK.match(name)],
    )
    # With a comma behind it, one class is meant.
    if len(classes) > 1 or (not is_file and text.rstrip().endswith(",")):
        return
    typed = text.strip().casefold()
    close = [] if is_file else difflib.get_close_matches(typed, sorted(known), n=3, cutoff=0.75)
    if close or not has_background:
        logger.warning(
            "The vocabulary is one class, %s, which every pixel may get: %s%s.",
            short(", ".join(classes[0])),
            cure,
            f" (or did you mean {' or '.join(close)}?)" if close else "",
        )


def _warn(message: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        logger.warning(message, ", ".join(map(short, names[:5])) + more)


def _without_invisible(name: str) -> str:
    spaced = (" " if char.isspace() else char for char in name)
    return "".join(c for c in spaced if unicodedata.category(c) not in ("Cf", "Cc")).strip()


def _key(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
