"""Data sets that are two folders, images and label maps, and a class list.

``tools/prepare_folder_dataset.py`` checks such folders once and writes ``dataset.json``; training
then registers them by ``DATASETS.FOLDERS``. ``register_folder_dataset`` does without the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from escnet_d2.io import write_json

from .class_lists import normalise_classes, read_class_list
from .sem_seg_dataset import SemSegDataset, register_sem_seg

MANIFEST_NAME = "dataset.json"
_PREPARE_HINT = "tools/prepare_folder_dataset.py writes it"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Split:
    """One split of a prepared folder.

    Attributes:
        image_root: absolute folder of the images.
        sem_seg_root: absolute folder of the label maps.
        num_images: labelled images found when it was prepared.
    """

    image_root: Path
    sem_seg_root: Path
    num_images: int


@dataclass(frozen=True)
class Manifest:
    """Content of ``dataset.json``.

    Attributes:
        name: first part of the names of the splits.
        classes: in label order, synonyms joined by ``", "``.
        ignore_label: the value of unlabelled pixels.
        splits: by name.
    """

    name: str
    classes: tuple[str, ...]
    ignore_label: int
    splits: Mapping[str, Split]


def register_folder_dataset(
    name: str,
    image_root: str | os.PathLike,
    sem_seg_root: str | os.PathLike,
    classes: Sequence[str | Sequence[str]] | str | os.PathLike,
    ignore_label: int = 255,
) -> None:
    """Registers images and label maps as a data set for training and evaluation.

    Files pair by name: ``image_root/a.jpg`` with ``sem_seg_root/a.png``, sub-folders included. They
    are looked for when the data set is loaded.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        image_root: folder of the images.
        sem_seg_root: folder of single-channel label maps, PNG or TIFF: values 0..K-1 are the
            classes, all others are unlabelled.
        classes: the class names in label order, or the file of a class list.
        ignore_label: one more value of unlabelled pixels, which may be below K.

    Raises:
        FileNotFoundError: the class list does not exist.
        ValueError: the name is unfit or taken by another data set, or the classes are unfit.
    """
    is_file = isinstance(classes, (str, os.PathLike))
    _register(
        name,
        image_root,
        sem_seg_root,
        classes=read_class_list(classes) if is_file else normalise_classes(classes),
        ignore_label=ignore_label,
    )


def register_prepared_folder(path: str | os.PathLike) -> list[str]:
    """Registers the splits of a folder that ``tools/prepare_folder_dataset.py`` has prepared.

    Registering the same content again does nothing.

    Args:
        path: the folder, or its ``dataset.json``.

    Returns:
        The names of the data sets, ``<name>_<split>`` in the file's order.

    Raises:
        FileNotFoundError: there is no ``dataset.json``.
        ValueError: the file is damaged, or a name is taken by another data set.
    """
    manifest = read_manifest(path)
    names = []
    for split_name, split in manifest.splits.items():
        name = f"{manifest.name}_{split_name}"
        _register(
            name,
            split.image_root,
            split.sem_seg_root,
            classes=manifest.classes,
            ignore_label=manifest.ignore_label,
            expected_images=split.num_images,
        )
        names.append(name)
    return names


def write_manifest(manifest: Manifest, folder: str | os.PathLike) -> Path:
    """Writes ``dataset.json``; folders are stored relative to it, so that all can move together.

    Splits that the folder's ``dataset.json`` already has of the same data set stay in it.

    Args:
        manifest: what to write.
        folder: where to; created when missing.

    Returns:
        The file.

    Raises:
        FileExistsError: the file is of another data set, or has splits with other classes.
        ValueError: the file is no ``dataset.json``.
    """
    folder = Path(folder).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST_NAME
    if path.is_file():
        manifest = _with_earlier_splits(manifest, path)
    content = {
        "name": manifest.name,
        "ignore_label": manifest.ignore_label,
        "splits": {
            name: {
                "image_root": _relative(split.image_root, folder),
                "sem_seg_root": _relative(split.sem_seg_root, folder),
                "num_images": split.num_images,
            }
            for name, split in manifest.splits.items()
        },
        "classes": list(manifest.classes),
    }
    write_json(path, content)
    return path


def _with_earlier_splits(manifest: Manifest, path: Path) -> Manifest:
    earlier = read_manifest(path)
    kept = {name: split for name, split in earlier.splits.items() if name not in manifest.splits}
    for field in ("name", "classes", "ignore_label"):
        # Splits that are all prepared anew may have other classes than before.
        is_bound = kept or field == "name"
        if is_bound and getattr(earlier, field) != getattr(manifest, field):
            raise FileExistsError(
                f"{path} is of the data set {earlier.name!r} with the splits "
                f"{', '.join(earlier.splits)}, which has another {field}: choose another folder, "
                "or remove the file."
            )
    return replace(manifest, splits={**kept, **manifest.splits})


def read_manifest(path: str | os.PathLike) -> Manifest:
    """Reads and checks ``dataset.json``; the folders it names need not exist.

    Args:
        path: the folder, or its ``dataset.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged; the message names it and the key.
    """
    path = Path(path).expanduser()
    if path.name != MANIFEST_NAME:
        path = path / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path.absolute()} does not exist: {_PREPARE_HINT}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _manifest_from_json(content, path.resolve().parent)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({_PREPARE_HINT}): {error}") from error


def check_name(name: str) -> str:
    """Returns a name that is fit for data sets, splits and folders of results.

    Args:
        name: the name to check.

    Raises:
        ValueError: it has other characters than letters, digits, ``_``, ``-`` and ``.``.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"The name {name!r} is unfit: use letters, digits, '_', '-' and '.', "
            "with a letter or digit first."
        )
    return name


def _register(
    name: str,
    image_root: str | os.PathLike,
    sem_seg_root: str | os.PathLike,
    *,
    classes: tuple[str, ...],
    ignore_label: int,
    expected_images: int | None = None,
) -> None:
    dataset = SemSegDataset(
        name=check_name(name),
        image_dir=str(Path(image_root).expanduser().absolute()),
        sem_seg_dir=str(Path(sem_seg_root).expanduser().absolute()),
        classes=classes,
        ignore_label=ignore_label,
        expected_images=expected_images,
    )
    differences = register_sem_seg(dataset)
    if differences:
        raise ValueError(
            f"A data set {name} is registered already, with other {' and '.join(differences)}: "
            "give this one another name."
        )
    MetadataCatalog.get(name).set(from_folder=True)


def _relative(folder: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(folder.expanduser().resolve(), start)).as_posix()
    except ValueError:  # Another drive on Windows.
        return folder.expanduser().resolve().as_posix()


def _manifest_from_json(content: Any, folder: Path) -> Manifest:
    _check_type(content, dict, "the file")
    splits = _value(content, "splits", dict)
    if not splits:
        raise ValueError("'splits' is empty.")
    return Manifest(
        name=check_name(_value(content, "name", str)),
        classes=normalise_classes(_value(content, "classes", list)),
        ignore_label=_value(content, "ignore_label", int),
        splits={
            check_name(name): _split_from_json(split, folder) for name, split in splits.items()
        },
    )


def _split_from_json(content: Any, folder: Path) -> Split:
    _check_type(content, dict, "a split")
    return Split(
        image_root=(folder / _value(content, "image_root", str)).resolve(),
        sem_seg_root=(folder / _value(content, "sem_seg_root", str)).resolve(),
        num_images=_value(content, "num_images", int),
    )


def _value(content: dict[str, Any], key: str, kind: type) -> Any:
    if key not in content:
        raise ValueError(f"{key!r} is missing.")
    _check_type(content[key], kind, repr(key))
    return content[key]


def _check_type(value: Any, kind: type, what: str) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{what} must be a JSON {kind.__name__}, got {value!r}.")
