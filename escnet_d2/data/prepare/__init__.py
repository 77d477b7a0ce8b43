"""From what the owners of the benchmarks ship to the label maps that are registered.

Each module reads one owner's formats; ``conversion`` writes what it reads. A preparation raises
FileNotFoundError where an archive is missing, with the address of it, and ValueError, with the name
of the file, where one is damaged or of another data set. ``tools/prepare_dataset.py`` is the
command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import archives
from .ade20k import prepare_ade20k_150
from .ade20k_full import prepare_ade20k_847
from .archives import Archive
from .coco import prepare_coco_panoptic, prepare_coco_stuff
from .conversion import LabelWriter
from .pascal_context import prepare_pascal_context_59, prepare_pascal_context_459
from .voc import prepare_voc


@dataclass(frozen=True)
class Preparation:
    """One thing that ``tools/prepare_dataset.py`` can do.

    Attributes:
        run: does it, and returns the data sets that it wrote.
        datasets: the data sets that are complete afterwards, if all archives were there.
        archives: what must be there, images included.
    """

    run: Callable[[LabelWriter], list[str]]
    datasets: tuple[str, ...]
    archives: tuple[Archive, ...]


_COCO_IMAGES = (archives.COCO_TRAIN_IMAGES, archives.COCO_VAL_IMAGES)

PREPARATIONS: dict[str, Preparation] = {
    "coco_stuff": Preparation(
        prepare_coco_stuff,
        ("coco_2017_train_stuff_all_sem_seg", "coco_2017_test_stuff_all_sem_seg"),
        (*_COCO_IMAGES, archives.COCO_STUFF_MAPS),
    ),
    "ade20k_150": Preparation(
        prepare_ade20k_150, ("ade20k_150_test_sem_seg",), (archives.ADE20K_CHALLENGE,)
    ),
    "ade20k_847": Preparation(
        prepare_ade20k_847, ("ade20k_full_sem_seg_freq_val_all",), (archives.ADE20K_FULL,)
    ),
    "pascal_context_59": Preparation(
        prepare_pascal_context_59,
        ("context_59_test_sem_seg",),
        (archives.VOC_2010, archives.PASCAL_CONTEXT_59),
    ),
    "pascal_context_459": Preparation(
        prepare_pascal_context_459,
        ("context_459_test_sem_seg",),
        (archives.VOC_2010, archives.PASCAL_CONTEXT_459),
    ),
    "voc": Preparation(
        prepare_voc,
        ("voc_2012_test_sem_seg", "voc_2012_test_background_sem_seg"),
        (archives.VOC_2012, archives.VOC_AUG),
    ),
    "coco_panoptic": Preparation(
        prepare_coco_panoptic,
        ("coco_2017_train_panoptic_sem_seg", "coco_2017_val_panoptic_sem_seg"),
        (*_COCO_IMAGES, archives.COCO_PANOPTIC),
    ),
}

__all__ = ["PREPARATIONS", "Archive", "LabelWriter", "Preparation"]
