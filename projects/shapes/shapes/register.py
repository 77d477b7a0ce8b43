"""``shapes_train_sem_seg`` and ``shapes_val_sem_seg`` in Detectron2's catalogs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from escnet_d2.data.file_pairs import FilePairs
from escnet_d2.data.sem_seg_dataset import SemSegDataset, datasets_root, register_sem_seg

from .splits import SPLITS, prepare_split
from .world import CLASSES, TRAIN_CLASSES

_FOLDER = "shapes"


def shapes_root() -> Path:
    """The folder of the data set below ``$DETECTRON2_DATASETS``."""
    return datasets_root() / _FOLDER


@dataclass(frozen=True)
class ShapesDataset(SemSegDataset):
    """A split that is drawn when it is asked for and not on disk.

    Attributes:
        split: one of ``SPLITS``.
    """

    split: str = ""

    def find_files(self, root: Path | None = None) -> FilePairs:
        """Pairs images and label maps, after drawing them if need be."""
        folder = shapes_root() if root is None else root / _FOLDER
        prepare_split(folder, self.split)
        return super().find_files(root)


def register_shapes() -> None:
    """Registers the splits with masks; training knows the seen classes only."""
    classes_of = dict.fromkeys(("train", "train_200", "train_50"), TRAIN_CLASSES)
    classes_of |= dict.fromkeys(("val", "demo"), CLASSES)
    for split, classes in classes_of.items():
        register_sem_seg(
            ShapesDataset(
                name=f"shapes_{split}_sem_seg",
                layouts=((f"{_FOLDER}/{split}/images", f"{_FOLDER}/{split}/labels"),),
                classes=tuple(classes),
                expected_images=SPLITS[split].num_scenes,
                split=split,
            )
        )
