"""Pairs images and label maps by their path without suffix."""

from __future__ import annotations

import os
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
    """

    pairs: list[tuple[Path, Path]]
    images_without_label: list[Path]
    labels_without_image: list[Path]


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
        image_suffixes: lower-case suffixes of images; other files are left alone.
        label_suffixes: likewise for label maps.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a folder has no such file, or two files that differ only in their suffix.
    """
    roots = {"image": Path(image_root), "label": Path(sem_seg_root)}
    missing = [
        f"the {kind} folder {root}" for kind, root in roots.items() if not os.path.isdir(root)
    ]
    if missing:
        first, *rest = missing
        also = "".join(f", nor does {other}" for other in rest)
        raise FileNotFoundError(f"T{first[1:]} does not exist{also}.")
    images = _files_by_stem(roots["image"], image_suffixes, "image")
    labels = _files_by_stem(roots["label"], label_suffixes, "label")
    return FilePairs(
        pairs=[(images[stem], labels[stem]) for stem in sorted(images.keys() & labels.keys())],
        images_without_label=[images[stem] for stem in sorted(images.keys() - labels.keys())],
        labels_without_image=[labels[stem] for stem in sorted(labels.keys() - images.keys())],
    )


def _files_by_stem(root: Path, suffixes: tuple[str, ...], kind: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in suffixes or name.startswith("."):
                continue
            path = Path(folder, name)
            key = path.relative_to(root).with_name(stem).as_posix()
            if key in files:
                raise ValueError(f"{files[key]} and {path} would share a {kind} name: keep one.")
            files[key] = path
    if not files:
        raise ValueError(f"The {kind} folder {root} has no {' or '.join(suffixes)} file.")
    return files
