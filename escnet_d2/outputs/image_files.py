"""Which images a run reads, and the name under which each one's outputs are filed."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from PIL import Image, UnidentifiedImageError

logger = logging.getLogger(__name__)

# Raster formats that Pillow decodes; its own list also has PDF, video and write-only formats.
# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
))
# fmt: on


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


@dataclass(frozen=True)
class ImageList:
    """What the inputs of a run amount to.

    Attributes:
        images: in natural order of their paths (``img2`` before ``img10``).
        num_ignored: files in folders and globs that are no images by their suffix, or hidden.
    """

    images: tuple[ImageFile, ...]
    num_ignored: int


def find_images(
    inputs: Sequence[str], *, recursive: bool = False, exclude: Iterable[Path] = ()
) -> ImageList:
    """Resolves folders, files and globs.

    Names mirror the tree under each folder (under the fixed part of a glob, beside a file). Where
    two images of one folder differ only in their suffix, the name keeps it; where images of
    different inputs would share a name, all names start with their input folder's name, numbered
    when that repeats too. An image reached twice counts once.

    Args:
        inputs: paths or globs; ``**`` in a glob stands for any folders.
        recursive: descend into the sub-folders of folders.
        exclude: folders that are not searched, such as those of the run's own output; files named
            outright are read nevertheless.

    Raises:
        FileNotFoundError: an input that does not exist, or a glob that matches nothing.
        ValueError: a named file that is no image, or inputs without any image.
    """
    excluded = tuple(os.path.join(os.path.abspath(folder), "") for folder in exclude)
    # By absolute path, to where it was found first.
    found: dict[str, _Found] = {}
    ignored = set()
    for text in inputs:
        is_named, files = _expand(text, recursive)
        for file in files:
            absolute = os.path.abspath(file.path)
            if is_named:
                _check_is_image(file.path)
            elif absolute.startswith(excluded):
                continue
            elif file.path.name.startswith(".") or not _has_image_suffix(file.path):
                ignored.add(absolute)
                continue
            found.setdefault(absolute, file)
    if not found:
        hint = "" if recursive else " (sub-folders are searched with --recursive)"
        raise ValueError(f"No images in {', '.join(map(repr, inputs))}{hint}.")
    ordered = dict(sorted(found.items(), key=lambda item: (_natural_key(item[1].path), item[0])))
    names = _output_names(ordered)
    images = (ImageFile(file.path, names[absolute]) for absolute, file in ordered.items())
    return ImageList(images=tuple(images), num_ignored=len(ignored))


@dataclass(frozen=True)
class _Found:
    """A file and the input folder that its name is relative to."""

    path: Path
    root: Path


def _expand(text: str, recursive: bool) -> tuple[bool, Iterable[_Found]]:
    """Whether an input names one file outright, and the files it stands for."""
    if not text.strip():
        raise ValueError("An input is empty; name a folder, files or a glob.")
    path = Path(text).expanduser()
    if path.is_dir():
        return False, _files_in(path, recursive)
    if path.exists():
        return True, [_Found(path, path.parent)]
    if not glob.has_magic(text):
        raise FileNotFoundError(f"Input {text!r} does not exist.")
    # Folders that exist are taken literally, since their names may hold brackets.
    root = next(parent for parent in path.parents if parent.is_dir())
    pattern = os.path.join(glob.escape(str(root)), str(path.relative_to(root)))
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if not matches:
        raise FileNotFoundError(f"Nothing matches the glob {text!r}.")
    return False, [_Found(match, root) for match in matches if match.is_file()]


def _files_in(folder: Path, recursive: bool) -> Iterator[_Found]:
    for parent, folders, files in os.walk(folder, onerror=_warn_unreadable):
        # In place: os.walk descends into what is left.
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            yield _Found(Path(parent, name), folder)


def _warn_unreadable(error: OSError) -> None:
    logger.warning("Skipping a folder: %s", error)


def _has_image_suffix(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _check_is_image(path: Path) -> None:
    """Refuses files that are no images; those that look like one are judged when they are read."""
    if _has_image_suffix(path):
        return
    try:
        Image.open(path).close()
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image.") from error


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
    by_root: dict[str, dict[str, PurePath]] = {}
    for absolute, file in found.items():
        root = os.path.abspath(file.root)
        by_root.setdefault(root, {})[absolute] = file.path.relative_to(file.root)
    names = {root: _names_in_one_root(relative) for root, relative in by_root.items()}
    every_name = Counter(name for group in names.values() for name in group.values())
    prefixes = dict.fromkeys(names, "")
    if max(every_name.values()) > 1:
        prefixes = {root: f"{label}/" for root, label in _root_labels(names).items()}
    return {
        absolute: prefixes[root] + name
        for root, group in names.items()
        for absolute, name in group.items()
    }


def _names_in_one_root(relative_paths: Mapping[str, PurePath]) -> dict[str, str]:
    """Paths without suffix, but with it where that would make two equal."""
    names = {key: path.with_suffix("").as_posix() for key, path in relative_paths.items()}
    while True:
        counts = Counter(names.values())
        clashing = [key for key, name in names.items() if counts[name] > 1]
        if not clashing:
            return names
        # Full paths are unique, so this ends.
        names.update({key: relative_paths[key].as_posix() for key in clashing})


def _root_labels(roots: Iterable[str]) -> dict[str, str]:
    """A unique name for each input folder: its own, numbered where it repeats."""
    labels: dict[str, str] = {}
    for root in sorted(roots):
        stem = os.path.basename(root) or "root"
        label, number = stem, 2
        while label in labels.values():
            label, number = f"{stem}-{number}", number + 1
        labels[root] = label
    return labels
