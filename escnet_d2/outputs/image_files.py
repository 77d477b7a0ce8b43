"""Finds the images that a run reads, and the name under which each one's outputs are filed."""

from __future__ import annotations

import functools
import glob
import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from escnet_d2.io import HEIF_SUFFIXES, IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

# A file, and the input folder that its name is relative to.
_Found = tuple[Path, Path]


@dataclass(frozen=True)
class ImageFile:
    """One image of a run.

    Attributes:
        path: where to read it, relative where the user's input was.
        name: unique in the run, with ``/`` between folders and mostly without suffix; outputs are
            ``<kind>/<name>.<suffix>``.
    """

    path: Path
    name: str


def find_images(
    inputs: Sequence[str], *, recursive: bool = False, exclude: Iterable[Path] = ()
) -> tuple[list[ImageFile], int]:
    """Resolves folders, files and globs; logs the suffixes of files that are ignored.

    Names mirror the tree under each folder (under the fixed part of a glob, beside a file). Where
    two images of one folder differ only in their suffix, the name keeps it; where images of
    different inputs would share a name, all names start with their input folder's name, numbered
    when that repeats too. An image reached twice counts once.

    Args:
        inputs: paths or globs; ``**`` in a glob stands for any folders.
        recursive: descend into the sub-folders of folders.
        exclude: folders that are not searched, such as those of the run's own output; files named
            outright are read nevertheless.

    Returns:
        The images in natural order of their paths (``img2`` before ``img10``), and the number of
        files in folders and globs that are not images by their suffix, or hidden.

    Raises:
        FileNotFoundError: an input that does not exist, or a glob that matches nothing.
        ValueError: a named file that is not an image, or inputs without any image.
    """
    excluded = tuple(os.path.join(os.path.abspath(folder), "") for folder in exclude)
    # By absolute path.
    found: dict[str, _Found] = {}
    ignored: dict[str, Path] = {}
    for text in inputs:
        is_named, files = _expand(text, recursive)
        for path, root in files:
            absolute = os.path.abspath(path)
            if is_named:
                _check_is_image(path)
            elif absolute.startswith(excluded):
                continue
            elif path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
                ignored[absolute] = path
                continue
            found.setdefault(absolute, (path, root))
    passed_over = _describe_ignored(ignored.values())
    if not found:
        hint = "" if recursive else " (sub-folders are searched with --recursive)"
        more = f"; {passed_over}" if passed_over else ""
        raise ValueError(f"No images in {', '.join(map(repr, inputs))}{hint}{more}.")
    if passed_over:
        logger.warning("%s", passed_over)
    ordered = dict(sorted(found.items(), key=lambda item: (_natural_key(item[1][0]), item[0])))
    names = _output_names(ordered)
    images = [ImageFile(path, names[absolute]) for absolute, (path, _) in ordered.items()]
    return images, len(ignored)


def _expand(text: str, recursive: bool) -> tuple[bool, Iterable[_Found]]:
    """Returns whether an input names one file outright, and the files it stands for."""
    if not text.strip():
        raise ValueError("An input is empty; name a folder, files or a glob.")
    path = Path(text).expanduser()
    if path.is_dir():
        return False, _files_in(path, recursive)
    if path.exists():
        return True, [(path, path.parent)]
    if not glob.has_magic(text):
        raise FileNotFoundError(f"Input {text!r} does not exist.")
    # Folders that exist are taken literally, since their names may hold brackets.
    root = next(parent for parent in path.parents if parent.is_dir())
    pattern = os.path.join(glob.escape(str(root)), str(path.relative_to(root)))
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if not matches:
        raise FileNotFoundError(f"Nothing matches the glob {text!r}.")
    return False, [(match, root) for match in matches if not match.is_dir()]


def _files_in(folder: Path, recursive: bool) -> Iterator[_Found]:
    warn = functools.partial(logger.warning, "Skipping a folder: %s")
    for parent, folders, files in os.walk(folder, onerror=warn):
        # In place: os.walk descends into what is left.
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            yield Path(parent, name), folder


def _check_is_image(path: Path) -> None:
    """Refuses files that are not images; those that look like one are judged when they are read."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return
    if not path.is_file():
        raise ValueError(f"{path} is not an image: it is not a regular file.")
    try:
        Image.open(path).close()
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image{_heif_hint([path.suffix])}.") from error


def _describe_ignored(paths: Iterable[Path]) -> str:
    """Counts files and names their suffixes; empty where all are hidden."""
    suffixes = Counter(path.suffix.lower() or path.name for path in paths if path.name[0] != ".")
    if not suffixes:
        return ""
    names = ", ".join(sorted(suffixes)[:8])
    return f"{sum(suffixes.values())} files ignored: {names}{_heif_hint(suffixes)}"


def _heif_hint(suffixes: Iterable[str]) -> str:
    is_heif = any(suffix.lower() in HEIF_SUFFIXES for suffix in suffixes)
    return " (pip install pillow-heif to read HEIC)" if is_heif else ""


def _natural_key(path: Path) -> tuple:
    """Sorts numbers in names by value, folder by folder."""
    return tuple(
        tuple(
            (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.casefold())
            for piece in re.split(r"(\d+)", part)
            if piece
        )
        for part in path.parts
    )


def _output_names(found: Mapping[str, _Found]) -> dict[str, str]:
    """Unique output names by absolute path, see :func:`find_images`."""
    relative = {key: path.relative_to(root) for key, (path, root) in found.items()}
    roots = {key: os.path.abspath(root) for key, (_, root) in found.items()}
    names = {key: path.with_suffix("").as_posix() for key, path in relative.items()}
    while True:
        counts = Counter((roots[key], name) for key, name in names.items())
        clashing = [key for key, name in names.items() if counts[roots[key], name] > 1]
        if not clashing:
            break
        # Full paths are unique, so this ends.
        names.update({key: relative[key].as_posix() for key in clashing})
    if len(set(names.values())) == len(names):
        return names
    labels: dict[str, str] = {}
    for root in sorted(set(roots.values())):
        stem = os.path.basename(root) or "root"
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        candidates = itertools.chain([stem], numbered)
        labels[root] = next(label for label in candidates if label not in labels.values())
    return {key: f"{labels[roots[key]]}/{name}" for key, name in names.items()}
