"""Pairs images and label maps by their path without suffix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LABEL_SUFFIXES = (".png", ".tif", ".tiff")


@dataclass(frozen=True)
class FilePairs:
    """Result of pairing two folders; every list is sorted.

    Attributes:
        pairs: (image, label map) of each labeled image.
        images_without_label: images that no label map belongs to.
        labels_without_image: label maps that belong to no image.
        not_files: what is called like an image or a label map but is a FIFO, a device or a link to
            nothing; it is not opened, and counts as missing.
    """

    pairs: list[tuple[Path, Path]]
    images_without_label: list[Path]
    labels_without_image: list[Path]
    not_files: list[Path]


def pair_files(
    image_root: str | os.PathLike,
    sem_seg_root: str | os.PathLike,
    *,
    image_suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
    label_suffixes: tuple[str, ...] = LABEL_SUFFIXES,
) -> FilePairs:
    """Pairs the images and label maps of two folders, sub-folders included.

    ``image_root/a/b.jpg`` belongs to ``sem_seg_root/a/b.png``.

    Args:
        image_root: folder of the images.
        sem_seg_root: folder of the label maps.
        image_suffixes: in lower case; other files are left alone.
        label_suffixes: likewise.

    Raises:
        FileNotFoundError: a folder does not exist.
        PermissionError: a folder or one in it may not be read.
        ValueError: a folder has no such file, two files that differ only in their suffix, or a link
            to a folder that the link is in.
    """
    roots = {"image": Path(image_root), "label": Path(sem_seg_root)}
    missing = [
        f"The {kind} folder {root} does not exist."
        for kind, root in roots.items()
        if not os.path.isdir(root)
    ]
    if missing:
        raise FileNotFoundError(" ".join(missing))
    not_files: list[Path] = []
    images = _files_by_stem(roots["image"], image_suffixes, "image", not_files)
    labels = _files_by_stem(roots["label"], label_suffixes, "label", not_files)
    return FilePairs(
        pairs=[(images[stem], labels[stem]) for stem in sorted(images.keys() & labels.keys())],
        images_without_label=[images[stem] for stem in sorted(images.keys() - labels.keys())],
        labels_without_image=[labels[stem] for stem in sorted(labels.keys() - images.keys())],
        not_files=sorted(not_files),
    )


def _files_by_stem(
    root: Path, suffixes: tuple[str, ...], kind: str, not_files: list[Path]
) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for entry in _entries(root):
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() not in suffixes or entry.name.startswith("."):
            continue
        path = Path(entry.path)
        key = path.relative_to(root).with_name(stem).as_posix()
        if not entry.is_file():
            not_files.append(path)
        elif key in files:
            raise ValueError(f"{files[key]} and {path} would share a {kind} name: keep one.")
        else:
            files[key] = path
    if not files:
        raise ValueError(f"The {kind} folder {root} has no {' or '.join(suffixes)} file.")
    return files


def _entries(folder: str | Path, parents: frozenset[str] = frozenset()) -> Iterator[os.DirEntry]:
    """Yields all that is not a folder, at any depth; links to folders are followed."""
    # Not os.walk, which passes over folders that may not be read, and follows a link to a parent.
    here = os.path.realpath(folder)
    if here in parents:
        raise ValueError(f"{folder} links to a folder that it is in.")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _entries(entry.path, parents | {here})
            else:
                yield entry
