"""Inputs and results of ESC-Net's blocks for one image, for pictures of the method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BlockInspection:
    """Pseudo prompts of one ESC-Block for n classes, on the H x W patches.

    Attributes:
        class_map: class logits that the prompts came from, float32 (n, H, W); of the first block
            CLIP's own correlation times its temperature.
        probability: float32 (n, H, W), in [0, 1].
        regions: int8 (n, H, W), cluster of each patch, -1 on the background.
        points: float32 (n, N, 2), (x, y) in patches.
        point_labels: int64 (n, N), 1 a point, -1 none.
        masks: float32 (n, H, W), the pseudo masks of all regions.
    """

    class_map: np.ndarray
    probability: np.ndarray
    regions: np.ndarray
    points: np.ndarray
    point_labels: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class PromptInspection:
    """All blocks of one image.

    Attributes:
        image: uint8 (h, w, 3), RGB.
        labels: the segmentation, int (h, w), index into the whole vocabulary.
        vocabulary_names: names of all classes.
        class_names: names of the n classes that the blocks show.
        blocks: in order.
    """

    image: np.ndarray
    labels: np.ndarray
    vocabulary_names: tuple[str, ...]
    class_names: tuple[str, ...]
    blocks: tuple[BlockInspection, ...]
