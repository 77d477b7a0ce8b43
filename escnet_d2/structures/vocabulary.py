"""The list of classes a model is asked to find, and how names become text.

Nothing here knows of CLIP, data sets or Detectron2: a vocabulary is plain, hashable data that
travels with each image (``batched_inputs[i]["vocabulary"]``), so that one model serves many
vocabularies.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SYNONYM_MODES = ("first", "mean", "max")
BACKGROUND_MODES = ("none", "words", "threshold")
BACKGROUND_NAME = "background"
DEFAULT_BACKGROUND_WORDS = ("background", "wall", "floor", "ceiling", "sky", "ground", "building")


@dataclass(frozen=True)
class Vocabulary:
    """Output classes and the text entries that are scored for them.

    An *entry* is what receives one text embedding: the mean over its names. A *class* is what the
    user gets back: the best of its entries. Most vocabularies have one entry per class; several
    entries share a class when synonyms compete (``max``), for background words, and for PAS-20b.

    Attributes:
        entries: the names of each entry, shape (K entries, 1 or more names).
        entry_classes: index into ``class_names`` for each entry; every entry's class exists.
        class_names: unique display names of the output classes.
        background_threshold: when set, the last class is the background; it has no entry and wins
            every pixel whose best score, in [0, 1], is below this value.
    """

    entries: tuple[tuple[str, ...], ...]
    entry_classes: tuple[int, ...]
    class_names: tuple[str, ...]
    background_threshold: float | None = None

    def __post_init__(self) -> None:
        if not self.entries:
            raise ValueError("The vocabulary is empty: give at least one class name.")
        expected = set(range(self.num_classes - (self.background_threshold is not None)))
        if len(self.entry_classes) != len(self.entries) or set(self.entry_classes) != expected:
            raise ValueError(
                f"entry_classes must give each of the {len(self.entries)} entries its class and "
                f"cover 0..{len(expected) - 1}, got {self.entry_classes}."
            )
        repeated = [name for name, count in Counter(self.class_names).items() if count > 1]
        if repeated:
            names = ", ".join(map(short, repeated[:5]))
            raise ValueError(f"Duplicate class names in the vocabulary: {names}.")

    @property
    def num_entries(self) -> int:
        """Number of text embeddings (K)."""
        return len(self.entries)

    @property
    def num_classes(self) -> int:
        """Number of output classes, the background included."""
        return len(self.class_names)

    @property
    def is_one_to_one(self) -> bool:
        """True if entry i is class i, so that scores need no merging."""
        return self.entry_classes == tuple(range(self.num_entries))

    @classmethod
    def from_classes(
        cls,
        classes: Sequence[str | Sequence[str]],
        *,
        synonyms: str = "first",
        background: str = "none",
        background_words: Sequence[str] = DEFAULT_BACKGROUND_WORDS,
        background_threshold: float = 0.5,
    ) -> Vocabulary:
        """Builds a vocabulary from class names.

        Args:
            classes: one item per class: a name, names joined by commas (``"couch, sofa"``), or a
                sequence of names.
            synonyms: what further names of a class do: ``first`` ignores them, ``mean`` averages
                their embeddings, ``max`` lets the best name win at each pixel.
            background: ``none``; ``words`` appends one background class scored by the best of
                ``background_words`` (words that are class names already are left out);
                ``threshold`` appends one that wins where every score is below
                ``background_threshold``, in [0, 1].
            background_words: see ``background``.
            background_threshold: see ``background``.

        Raises:
            ValueError: empty or duplicate names, an unknown mode, a threshold outside [0, 1].
        """
        if isinstance(classes, str):
            raise ValueError(
                f"Expected a sequence of class names, got the string {classes!r}. "
                "Use escnet_d2.data.resolve_vocabulary for text."
            )
        modes = (
            ("synonyms", synonyms, SYNONYM_MODES),
            ("background", background, BACKGROUND_MODES),
        )
        for key, value, accepted in modes:
            if value not in accepted:
                raise ValueError(f"{key} must be one of {', '.join(accepted)}, got {value!r}.")
        names_per_class = [split_names(item) for item in classes]
        # Classes that share a first name (ADE-847 has three "bag") show all names.
        firsts = Counter(names[0] for names in names_per_class)
        class_names = tuple(
            names[0] if firsts[names[0]] == 1 else ", ".join(names) for names in names_per_class
        )

        entries: list[tuple[str, ...]] = []
        entry_classes: list[int] = []
        for index, names in enumerate(names_per_class):
            class_entries = {
                "first": [names[:1]],
                "mean": [names],
                "max": [(name,) for name in names],
            }[synonyms]
            entries += class_entries
            entry_classes += [index] * len(class_entries)

        if background != "none" and BACKGROUND_NAME in (name.lower() for name in class_names):
            raise ValueError(
                f"The vocabulary already has a class {BACKGROUND_NAME!r}: "
                "rename it or use background='none'."
            )
        if background == "words":
            known = {name.lower() for names in names_per_class for name in names}
            words = [(word,) for word in background_words if word.lower() not in known]
            if not words:
                raise ValueError("background='words' needs a word that is not a class name.")
            entries += words
            entry_classes += [len(class_names)] * len(words)
        if background == "threshold" and not 0.0 <= background_threshold <= 1.0:
            raise ValueError(f"background_threshold must be in [0, 1], got {background_threshold}.")
        if background != "none":
            class_names = (*class_names, BACKGROUND_NAME)
        return cls(
            entries=tuple(entries),
            entry_classes=tuple(entry_classes),
            class_names=class_names,
            background_threshold=background_threshold if background == "threshold" else None,
        )

    def subset(self, classes: Sequence[int]) -> Vocabulary:
        """Returns the vocabulary of some of the classes, ascending indices."""
        place = {index: new for new, index in enumerate(classes)}
        kept = [
            (entry, place[owner])
            for entry, owner in zip(self.entries, self.entry_classes)
            if owner in place
        ]
        entries, owners = zip(*kept)
        return Vocabulary(
            entries=entries,
            entry_classes=owners,
            class_names=tuple(self.class_names[index] for index in classes),
            background_threshold=self.background_threshold,
        )

    @classmethod
    def from_file(cls, path: str | Path, *, synonyms: str = "first") -> Vocabulary:
        """Reads a file by :func:`read_classes`; ``synonyms`` is that of :meth:`from_classes`."""
        classes = read_classes(path)
        try:
            return cls.from_classes(classes, synonyms=synonyms)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def classes_from_text(text: str) -> list[tuple[str, ...]]:
    """Reads the names of each class in ``"couch|sofa, dog, grass"``.

    Commas and line ends separate classes, ``|`` the names of a class; a comma in double quotes
    belongs to a name. Lines that start with ``#`` are skipped. A JSON list is read as
    :func:`read_classes` does.

    Raises:
        ValueError: JSON that is not a list of names, or quotes that do not match.
    """
    if _is_json(text):
        return _classes_from_json(text)
    items = [item for row in _rows(text) for item in row]
    return [split_names(item.split("|")) for item in items if item.strip()]


def read_classes(path: str | Path) -> list[tuple[str, ...]]:
    """Reads a class list: JSON (a list of names) or text (one class per line).

    In both, a comma or ``|`` separates the names of one class; in text, a comma in double quotes
    belongs to a name. Empty lines and lines that start with ``#`` are skipped. In JSON a class may
    also be a list of names, or an object with a ``name``.

    Args:
        path: UTF-8, and JSON by its suffix or its beginning.

    Returns:
        The names of each class.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not such a list; the message names the file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"Class list {path} does not exist.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        # UTF-16 without its mark is valid UTF-8, with a zero byte in every letter.
        if "\0" in text:
            raise ValueError("it is not UTF-8 text, but holds zero bytes; save it as UTF-8.")
        if path.suffix.lower() == ".json" or _is_json(text):
            classes = _classes_from_json(text)
        else:
            rows = [[name for item in row for name in item.split("|")] for row in _rows(text)]
            classes = [split_names(row) for row in rows if any(name.strip() for name in row)]
        if not classes:
            raise ValueError("it is empty; write each class on a line of its own.")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not a class list: it is not UTF-8 text; save it as UTF-8."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return classes


def short(name: str) -> str:
    """Returns a name as messages quote it: names may be of any length."""
    return repr(name if len(name) <= 60 else f"{name[:57]}...")


def _is_json(text: str) -> bool:
    return text.lstrip().startswith(("[", "{"))


def _rows(text: str) -> Iterator[list[str]]:
    """Yields the fields between commas of each line, without comments."""
    lines = (line.strip() for line in text.splitlines())
    wanted = [line for line in lines if line and not line.startswith("#")]
    try:
        yield from csv.reader(wanted, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise ValueError(
            f"double quotes around a name must come in pairs and end at a comma: {error}."
        ) from error


def split_names(item: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names of one class, stripped, in order, without repeats."""
    if not isinstance(item, str) and not (
        isinstance(item, (list, tuple)) and all(isinstance(name, str) for name in item)
    ):
        raise ValueError(f"A class is a name or a list of names, not {item!r}.")
    parts = item.replace("|", ",").split(",") if isinstance(item, str) else item
    names = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not names:
        raise ValueError(f"Class name {item!r} is empty.")
    return names


def _classes_from_json(text: str) -> list[tuple[str, ...]]:
    """Reads a list of strings, of lists of names, or of named objects."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"expected a JSON list of class names: {error}.") from error
    if not isinstance(content, list):
        raise ValueError("expected a JSON list of class names.")
    return [
        split_names(item.get("name", item) if isinstance(item, dict) else item) for item in content
    ]
