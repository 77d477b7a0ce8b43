"""From a data-set dict to what the model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T

from escnet_d2.config import check_choice, class_list_setting, synonym_mode
from escnet_d2.io import read_image, read_label_map
from escnet_d2.structures import Vocabulary

from .augmentation import UNLABELED, AlignedResizeShortestEdge, PadToSize, PhotometricDistortion
from .region_masks import RegionMasks
from .vocabulary import vocabulary_of_dataset

_DEFAULT_IGNORE_LABEL = 255


@dataclass(frozen=True)
class LabelSpace:
    """The meaning of the label values of one data set.

    Attributes:
        vocabulary: the classes; labels 0..K-1 index its ``class_names``.
        ignore_label: the data set's value of unlabeled pixels.
    """

    vocabulary: Vocabulary
    ignore_label: int = _DEFAULT_IGNORE_LABEL

    @property
    def unlabeled_value(self) -> int:
        """The value of unlabeled pixels in ``sem_seg``: never a class index."""
        num_classes = self.vocabulary.num_classes
        if self.ignore_label >= num_classes:
            return self.ignore_label
        return max(_DEFAULT_IGNORE_LABEL, num_classes)

    def mask_unlabeled(self, labels: np.ndarray) -> np.ndarray:
        """Copies ``labels`` with every value that is not a class set to ``UNLABELED``."""
        is_class = (labels >= 0) & (labels < self.vocabulary.num_classes)
        return np.where(is_class & (labels != self.ignore_label), labels, UNLABELED)


class SemanticDatasetMapper:
    """Reads, augments and packs one image and, in training, its label map.

    Training: resize, pad and crop, colors, flip, as ``INPUT`` says. Testing: resize only; the
    label map is left to the evaluator.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation],
        label_spaces: Mapping[str, LabelSpace],
        region_masks: RegionMasks | None = None,
    ) -> None:
        """Takes everything built; ``SemanticDatasetMapper(cfg, is_train)`` builds it from a config.

        Args:
            is_train: read label maps.
            augmentations: applied in order to the image and the label map.
            label_spaces: by data-set name; looked up here and not in the catalog when an image is
                read, since the worker processes of some platforms do not inherit the catalog.
            region_masks: finds masks that the model is given with each image.
        """
        self.is_train = is_train
        self.augmentations = T.AugmentationList(list(augmentations))
        self.label_spaces = dict(label_spaces)
        self.region_masks = region_masks

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool = True, dataset_names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Reads ``INPUT``, ``VOCABULARY`` and, unless ``dataset_names`` are given, ``DATASETS``.

        Raises:
            ValueError: a data set is not registered, a class list does not fit it, or
                ``INPUT.CROP`` or ``INPUT.RANDOM_FLIP`` has an unknown value.
        """
        if dataset_names is None:
            dataset_names = cfg.DATASETS.TRAIN if is_train else cfg.DATASETS.TEST
        override = class_list_setting(cfg, is_train=is_train)
        label_spaces = {
            name: LabelSpace(
                vocabulary=vocabulary_of_dataset(
                    name, override=override, synonyms=synonym_mode(cfg)
                ),
                ignore_label=MetadataCatalog.get(name).get("ignore_label", _DEFAULT_IGNORE_LABEL),
            )
            for name in dataset_names
        }
        return {
            "is_train": is_train,
            "augmentations": build_augmentations(cfg, is_train),
            "label_spaces": label_spaces,
            "region_masks": RegionMasks.from_config(cfg),
        }

    def __call__(self, dataset_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Maps one sample.

        Args:
            dataset_dict: ``file_name``, ``dataset_name`` and, for training, ``sem_seg_file_name``.

        Returns:
            The same keys and: ``image``, uint8 RGB tensor (3, h, w); ``height`` and ``width`` of
            the image file; ``vocabulary``; in training ``sem_seg``, int64 tensor (h, w), where
            values outside 0..K-1 are unlabeled; under MODEL.MASKS.SOURCE "file" and "truth"
            ``masks``, bool tensor (M, h, w).

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file cannot be read, the sizes of image and label map differ, or the data
                set is not one that the mapper was built for; names the files.
        """
        sample = dict(dataset_dict)
        space = self._label_space(sample)
        image = read_image(sample["file_name"])
        sample.setdefault("height", image.shape[0])
        sample.setdefault("width", image.shape[1])
        labels = self._read_labels(sample, image, space) if self.is_train else None

        augmented = T.AugInput(image, sem_seg=labels)
        transforms = self.augmentations(augmented)
        if self.region_masks is not None:
            labels_file = sample.get("sem_seg_file_name")
            masks = self.region_masks.read(sample["file_name"], image.shape[:2], labels_file)
            sample["masks"] = transformed_masks(masks, transforms)
        sample["image"] = torch.from_numpy(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
        if labels is not None:
            sem_seg = torch.from_numpy(np.ascontiguousarray(augmented.sem_seg, dtype=np.int64))
            sem_seg[sem_seg == UNLABELED] = space.unlabeled_value
            sample["sem_seg"] = sem_seg
        sample["vocabulary"] = space.vocabulary
        return sample

    def _label_space(self, sample: Mapping[str, Any]) -> LabelSpace:
        name = sample.get("dataset_name")
        if name not in self.label_spaces:
            raise ValueError(
                f"{sample['file_name']} is of the data set {name!r}, but the mapper was built for "
                f"{', '.join(self.label_spaces) or 'none'}."
            )
        return self.label_spaces[name]

    def _read_labels(
        self, sample: Mapping[str, Any], image: np.ndarray, space: LabelSpace
    ) -> np.ndarray:
        if "sem_seg_file_name" not in sample:
            raise ValueError(f"{sample['file_name']} has no sem_seg_file_name to train on.")
        labels = read_label_map(sample["sem_seg_file_name"])
        check_same_size(
            sample["file_name"], image.shape[:2], sample["sem_seg_file_name"], labels.shape
        )
        return space.mask_unlabeled(labels)


def transformed_masks(masks: np.ndarray, transforms: T.Transform) -> torch.Tensor:
    """Takes masks along with their image: bool (M, H, W) to a bool tensor (M, h, w)."""
    if not len(masks):
        empty = transforms.apply_segmentation(np.zeros(masks.shape[1:], np.int16))
        return torch.zeros(0, *empty.shape, dtype=torch.bool)
    moved = [transforms.apply_segmentation(mask.astype(np.int16)) == 1 for mask in masks]
    return torch.from_numpy(np.stack(moved))


def check_same_size(
    image_file: str, image_size: Sequence[int], label_file: str, label_size: Sequence[int]
) -> None:
    """Refuses a label map that does not cover its image.

    Args:
        image_file: for the message.
        image_size: (height, width) with the EXIF orientation applied.
        label_file: for the message.
        label_size: (height, width).

    Raises:
        ValueError: the sizes differ.
    """
    if tuple(image_size) == tuple(label_size):
        return
    message = (
        f"The image {image_file} is {image_size[1]} x {image_size[0]} pixels, but its label map "
        f"{label_file} is {label_size[1]} x {label_size[0]}."
    )
    if tuple(image_size) == tuple(label_size)[::-1]:
        message += " Images are read with their EXIF orientation applied."
    raise ValueError(message)


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Builds what ``INPUT`` asks for.

    Raises:
        ValueError: ``INPUT.CROP`` or ``INPUT.RANDOM_FLIP`` has an unknown value.
    """
    options = cfg.INPUT
    if not is_train:
        return [AlignedResizeShortestEdge(options.MIN_SIZE_TEST, options.MAX_SIZE_TEST)]
    augmentations: list[T.Augmentation] = [
        AlignedResizeShortestEdge(
            options.MIN_SIZE_TRAIN, options.MAX_SIZE_TRAIN, options.MIN_SIZE_TRAIN_SAMPLING
        )
    ]
    if options.CROP.ENABLED:
        augmentations += _crop(options.CROP)
    if options.COLOR_AUG_SSD:
        augmentations.append(PhotometricDistortion())
    augmentations += _flip(options.RANDOM_FLIP)
    if options.SIZE_DIVISIBILITY > 0:
        augmentations.append(PadToSize(options.SIZE_DIVISIBILITY, options.SIZE_DIVISIBILITY))
    return augmentations


def _crop(crop: CfgNode) -> list[T.Augmentation]:
    accepted = ("absolute", "absolute_range", "relative", "relative_range")
    check_choice("INPUT.CROP.TYPE", crop.TYPE, accepted)
    area = crop.SINGLE_CATEGORY_MAX_AREA
    cut = T.RandomCrop_CategoryAreaConstraint(crop.TYPE, crop.SIZE, area, UNLABELED)
    return [PadToSize(*crop.SIZE), cut] if crop.TYPE == "absolute" else [cut]


def _flip(direction: str) -> list[T.Augmentation]:
    flips = {
        "none": [],
        "horizontal": [T.RandomFlip()],
        "vertical": [T.RandomFlip(horizontal=False, vertical=True)],
    }
    check_choice("INPUT.RANDOM_FLIP", direction, flips)
    return flips[direction]
