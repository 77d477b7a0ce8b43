"""The benchmarks under the names, class lists and label values of SAN, FC-CLIP and MESS.

Each name looks in its release's folders first, and then where other releases keep the same labels.
``ade20k_sem_seg_val`` (SAN, MESS) is Detectron2's own registration and stays as it is.
"""

from __future__ import annotations

from ..class_lists import read_class_list
from ..sem_seg_dataset import SemSegDataset
from .builtin_meta import BACKGROUND_CLASS, benchmark

# Name, labels, release whose folders come first, class list, value of unlabeled pixels.
_ALIASES = (
    ("coco_2017_train_stuff_sem_seg", "coco_stuff_train", "san", "coco", 255),
    ("coco_2017_test_stuff_sem_seg", "coco_stuff_val", "san", "coco", 255),
    ("ade20k_full_sem_seg_val", "ade847", "san", "ade847", 65535),
    ("pcontext_sem_seg_val", "pc59", "san", "pc59", 255),
    ("pcontext_full_sem_seg_val", "pc459", "san", "pc459_spaced", 65535),
    ("voc_sem_seg_val", "voc20", "san", "voc20_san", 255),
    ("openvocab_coco_2017_train_stuff_sem_seg", "coco_stuff_train", "san", "coco_fcclip", 255),
    ("openvocab_coco_2017_test_stuff_sem_seg", "coco_stuff_val", "san", "coco_fcclip", 255),
    ("openvocab_ade20k_sem_seg_val", "ade150", "fcclip", "ade150_fcclip", 255),
    ("openvocab_ade20k_full_sem_seg_val", "ade847", "fcclip", "ade847_fcclip", 65535),
    ("openvocab_pascal_ctx59_sem_seg_val", "pc59", "fcclip", "pc59_fcclip", 255),
    ("openvocab_pascal_ctx459_sem_seg_val", "pc459", "fcclip", "pc459_fcclip", 65535),
    ("openvocab_pascal20_sem_seg_val", "voc20", "fcclip", "voc20_fcclip", 255),
    ("openvocab_pascal21_sem_seg_val", "voc21", "fcclip", "voc21_fcclip", 255),
    ("pascal_context_59_sem_seg_val", "pc59", "mess", "pc59", 255),
    ("pascal_context_459_sem_seg_val", "pc459", "mess", "pc459", 65535),
    ("voc_2012_sem_seg_val", "voc20", "mess", "voc20", 255),
)


def alias_meta() -> tuple[SemSegDataset, ...]:
    """Returns the registrations of SAN, FC-CLIP and MESS for the same benchmarks."""
    aliases = [
        benchmark(name, labels, classes=classes, release=release, ignore_label=ignore_label)
        for name, labels, release, classes, ignore_label in _ALIASES
    ]
    # One prompt for the background, where PAS-20b has 39.
    mess_background = benchmark(
        "voc_2012_sem_seg_val_bg",
        "voc20b",
        classes=(*read_class_list("voc20"), BACKGROUND_CLASS),
        release="mess",
    )
    return (*aliases, mess_background)
