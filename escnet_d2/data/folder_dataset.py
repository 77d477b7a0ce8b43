"""Data sets that are two folders, images and label maps, and a class list.

``tools/prepare_folder_dataset.py`` checks such folders once and writes ``dataset.json``; training
then registers them by ``DATASETS.FOLDERS``. ``register_folder_dataset`` does without the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from escnet_d2.io import write_json

from .class_lists import read_class_list
from .sem_seg_dataset import SemSegDataset, register_sem_seg

MANIFEST_NAME = "dataset.json"
_PREPARE_HINT = "tools/prepare_folder_dataset.py writes it"
_VERSION = 1
# Label maps hold at most 32 bits.
_IGNORE_LABELS = (-(2**31), 2**31 - 1)
# What dataset.json holds, and what each of its splits holds.
_KEYS = {"name": str, "classes": list, "ignore_label": int, "splits": dict}
_SPLIT_KEYS = {"image_root": str, "sem_seg_root": str, "num_images": int}


def folder_dataset(
    name: str,
    image_root: str | os.PathLike,
    sem_seg_root: str | os.PathLike,
    classes: Sequence[str | Sequence[str]] | str | os.PathLike,
    *,
    ignore_label: int = 255,
    expected_images: int | None = None,
) -> SemSegDataset:
    """Describes images and label maps as a data set, without reading them.

    Args:
        name: letters, digits, ``_``, ``-`` and ``.``, with a letter or digit first.
        image_root: as the rest, see :func:`register_folder_dataset`.
        sem_seg_root: see there.
        classes: see there.
        ignore_label: see there.
        expected_images: number of labeled images, if known.

    Raises:
        FileNotFoundError: the class list does not exist.
        ValueError: the name, the classes or the ignore label are unfit.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError(
            f"The name {name!r} is unfit: use letters, digits, '_', '-' and '.', "
            "with a letter or digit first."
        )
    low, high = _IGNORE_LABELS
    if not low <= ignore_label <= high:
        raise ValueError(f"The ignore label must be in {low}..{high}, got {ignore_label}.")
    image_root, sem_seg_root = (
        str(Path(folder).expanduser().absolute()) for folder in (image_root, sem_seg_root)
    )
    return SemSegDataset(
        name=name,
        layouts=((image_root, sem_seg_root),),
        classes=read_class_list(classes),
        ignore_label=ignore_label,
        expected_images=expected_images,
    )


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
            classes, all others are unlabeled.
        classes: the class names in label order, or the file of a class list.
        ignore_label: one more value of unlabeled pixels, which may be below K.

    Raises:
        FileNotFoundError: the class list does not exist.
        ValueError: the name is unfit or taken by another data set, or the classes are unfit.
    """
    _register(folder_dataset(name, image_root, sem_seg_root, classes, ignore_label=ignore_label))


def register_prepared_folder(path: str | os.PathLike) -> list[str]:
    """Registers the splits of a folder that ``tools/prepare_folder_dataset.py`` has prepared.

    Registering the same content again does nothing.

    Args:
        path: as of :func:`read_manifest`.

    Returns:
        The names of the data sets, ``<name>_<split>`` in the file's order.

    Raises:
        FileNotFoundError, ValueError: as of :func:`read_manifest`; or a name is taken by another
            data set.
    """
    _, splits = read_manifest(path)
    for dataset in splits.values():
        _register(dataset)
    return [dataset.name for dataset in splits.values()]


def write_manifest(
    folder: str | os.PathLike, name: str, splits: Mapping[str, SemSegDataset]
) -> Path:
    """Writes ``dataset.json``; folders are stored relative to it, so that all can move together.

    Splits that the folder's ``dataset.json`` already has of the same data set stay in it.

    Args:
        folder: where to; created when missing.
        name: of the data set, first part of the names of its splits.
        splits: by name; with the same classes and ignore label, and ``expected_images``.

    Returns:
        The file.

    Raises:
        FileExistsError: the file is of another data set, or has splits with other classes.
        ValueError: the file is not a ``dataset.json``.
    """
    folder = Path(folder).expanduser().resolve()
    path = folder / MANIFEST_NAME
    if path.exists():
        splits = {**_earlier_splits(path, name, splits), **splits}
    first = next(iter(splits.values()))
    content = {
        "version": _VERSION,
        "name": name,
        "ignore_label": first.ignore_label,
        "splits": {
            split: {
                **{
                    key: _relative(path, folder)
                    for key, path in zip(("image_root", "sem_seg_root"), dataset.folders())
                },
                "num_images": dataset.expected_images,
            }
            for split, dataset in splits.items()
        },
        "classes": list(first.classes),
    }
    write_json(path, content)
    return path


def read_manifest(path: str | os.PathLike) -> tuple[str, dict[str, SemSegDataset]]:
    """Reads and checks a ``dataset.json``; the folders it names need not exist.

    Args:
        path: the folder that holds it, or the file.

    Returns:
        The name of the data set, and its splits by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged; the message names it and the key.
    """
    path = Path(path).expanduser()
    if path.name != MANIFEST_NAME:
        path = path / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path.absolute()} is not a file: {_PREPARE_HINT}.")
    folder = path.resolve().parent
    try:
        content = _checked(json.loads(path.read_text(encoding="utf-8-sig")), _KEYS, "the file")
        # Files of before there was a version have the first one's form.
        if content.get("version", _VERSION) != _VERSION:
            raise ValueError(
                f"it has version {content['version']!r:.80}, and this package reads {_VERSION}."
            )
        if not content["splits"]:
            raise ValueError("'splits' is empty.")
        splits = {}
        for split, value in content["splits"].items():
            facts = _checked(value, _SPLIT_KEYS, f"the split {split!r}")
            splits[split] = folder_dataset(
                f"{content['name']}_{split}",
                (folder / facts["image_root"]).resolve(),
                (folder / facts["sem_seg_root"]).resolve(),
                content["classes"],
                ignore_label=content["ignore_label"],
                expected_images=facts["num_images"],
            )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be used ({_PREPARE_HINT}): {error}") from error
    return content["name"], splits


def _register(dataset: SemSegDataset) -> None:
    differences = register_sem_seg(dataset)
    if differences:
        raise ValueError(
            f"A data set {dataset.name} is registered already, with other "
            f"{' and '.join(differences)}: give this one another name."
        )
    MetadataCatalog.get(dataset.name).set(from_folder=True)


def _earlier_splits(
    path: Path, name: str, splits: Mapping[str, SemSegDataset]
) -> dict[str, SemSegDataset]:
    """Returns the splits of a file that another run prepared and this one does not."""
    earlier_name, earlier = read_manifest(path)
    # Splits that are all prepared again may have other classes than before.
    kept = {split: dataset for split, dataset in earlier.items() if split not in splits}
    new = next(iter(splits.values()))
    differences = ["name"] if earlier_name != name else []
    for key in ("classes", "ignore_label"):
        if any(getattr(old, key) != getattr(new, key) for old in kept.values()):
            differences.append(key)
    if differences:
        raise FileExistsError(
            f"{path} is of the data set {earlier_name!r} with the splits {', '.join(earlier)}, "
            f"which has another {differences[0]}: choose another folder, or remove the file."
        )
    return kept


def _relative(folder: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(folder.resolve(), start)).as_posix()
    except ValueError:  # Another drive on Windows.
        return folder.resolve().as_posix()


def _checked(content: Any, kinds: Mapping[str, type], what: str) -> dict[str, Any]:
    """Returns a JSON object of which all keys are there and of the right type."""
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be a JSON dict, got {content!r:.80}.")
    for key, kind in kinds.items():
        if key not in content:
            raise ValueError(f"{key!r} is missing.")
        if not isinstance(content[key], kind) or isinstance(content[key], bool):
            raise ValueError(f"{key!r} must be a JSON {kind.__name__}, got {content[key]!r:.80}.")
    return content
