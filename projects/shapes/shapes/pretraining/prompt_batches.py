"""Prompts for :class:`PromptedSam` from the masks of the data set ``shapes``.

Prompts come in the forms that ESC-Net's pseudo prompts have: up to five points, a coarse mask, or
both; for one thing, or for one kind of ground.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.modeling.sam.sam_block import pseudo_mask_logits

from ..splits import read_images, read_maps
from ..world import CLASSES
from .tiny_sam import PATCH_SIZE, PromptBatch

_MAX_POINTS = 5
# How many points a prompt has: often one, as ESC-Net's regions do.
_NUM_POINTS = (1, 1, 1, 2, 3, 5)
# Coverage at which a patch of a mask prompt counts as in.
_MASK_THRESHOLD = 0.3
# Smallest target, in pixels.
_MIN_AREA = 24
# Points are the hardest to learn.
_KINDS = ("points", "points", "points", "mask", "both")
_THING_PROBABILITY = 0.75


class PromptBatches:
    """Endless batches; those of an iteration depend only on the seed and the iteration."""

    def __init__(self, folder: Path, *, batch_size: int, num_prompts: int, seed: int) -> None:
        """Reads a split with masks into memory.

        Args:
            folder: of the split.
            batch_size: images.
            num_prompts: M, prompts per image.
            seed: of all randomness.
        """
        self.images = read_images(folder)
        self.labels = read_maps(folder / "labels")
        self.instances = read_maps(folder / "instances")
        self.batch_size = batch_size
        self.num_prompts = num_prompts
        self.seed = seed

    def __call__(self, start: int) -> Iterator[PromptBatch]:
        """Returns the batches from iteration ``start`` on."""
        return map(self.batch, count(start))

    def batch(self, iteration: int) -> PromptBatch:
        """The batch of one iteration."""
        rng = np.random.RandomState([self.seed, iteration])
        indices = rng.randint(0, len(self.images), self.batch_size)
        prompts = [
            _prompt(rng, target, _KINDS[rng.randint(len(_KINDS))], _NUM_POINTS[rng.randint(6)])
            for index in indices
            for target in self._targets(rng, index)
        ]
        return self._collate(indices, prompts)

    def probe(self, indices: range, kind: str, num_points: int) -> PromptBatch:
        """Prompts of one form on given images, for measuring; the same at every call.

        Args:
            indices: images.
            kind: "points", "mask" or "both".
            num_points: 1 to 5.
        """
        rng = np.random.RandomState([self.seed, indices.start])
        prompts = [
            _prompt(rng, target, kind, num_points)
            for index in indices
            for target in self._targets(rng, index)
        ]
        return self._collate(np.asarray(indices), prompts)

    def _targets(self, rng: np.random.RandomState, index: int) -> list[np.ndarray]:
        """M masks of one image: things, or kinds of ground; bool (h, w)."""
        things = _large_parts(self.instances[index])
        grounds = _large_parts(np.where(self.instances[index] == 0, self.labels[index] + 1, 0))
        chosen = []
        for _ in range(self.num_prompts):
            is_thing = rng.uniform() < _THING_PROBABILITY
            parts = (things if is_thing else grounds) or things or grounds
            chosen.append(parts[rng.randint(len(parts))])
        return chosen

    def _collate(self, indices: np.ndarray, prompts: list[tuple]) -> PromptBatch:
        shape = (len(indices), self.num_prompts)
        points, labels, masks, given, targets = (
            torch.from_numpy(np.stack(part)).unflatten(0, shape) for part in zip(*prompts)
        )
        return PromptBatch(
            images=torch.from_numpy(self.images[indices]).permute(0, 3, 1, 2),
            points=points,
            point_labels=labels,
            mask_prompts=_coarse_logits(masks.flatten(0, 1)).unflatten(0, shape),
            has_mask_prompt=given,
            # SAM predicts at half of these pictures' resolution.
            targets=targets[..., ::2, ::2],
            regions=torch.from_numpy(self._regions(indices)),
        )

    def _regions(self, indices: np.ndarray) -> np.ndarray:
        """What the middle of each patch shows: a kind of ground, or a thing by its number."""
        middle = slice(PATCH_SIZE // 2, None, PATCH_SIZE)
        labels, instances = (
            maps[indices][:, middle, middle].astype(np.int64)
            for maps in (self.labels, self.instances)
        )
        return np.where(instances > 0, len(CLASSES) + instances, labels)


def _large_parts(values: np.ndarray) -> list[np.ndarray]:
    """Masks of the numbers above 0 that have enough pixels."""
    numbers, areas = np.unique(values, return_counts=True)
    return [
        values == number for number, area in zip(numbers, areas) if number > 0 and area >= _MIN_AREA
    ]


def _prompt(
    rng: np.random.RandomState, target: np.ndarray, kind: str, num_points: int
) -> tuple[np.ndarray, ...]:
    """Points (N, 2), their labels (N,), a noisy mask (H, W), whether it is given, the target."""
    points = np.zeros((_MAX_POINTS, 2), np.float32)
    labels = np.full(_MAX_POINTS, -1.0, np.float32)
    if kind != "mask":
        rows, columns = np.nonzero(target)
        drawn = rng.randint(0, len(rows), num_points)
        points[:num_points] = np.stack([columns[drawn], rows[drawn]], axis=1)
        labels[:num_points] = 1
    coarse = _noisy_coverage(rng, target)
    return points, labels, coarse, np.asarray(kind != "points"), target


def _noisy_coverage(rng: np.random.RandomState, target: np.ndarray) -> np.ndarray:
    """Imitates a coarse class map: the share of the mask in each patch, unsure, partly wrong."""
    height, width = target.shape
    cells = target.reshape(height // PATCH_SIZE, PATCH_SIZE, width // PATCH_SIZE, PATCH_SIZE)
    coverage = cells.mean(axis=(1, 3))
    confidence = rng.uniform(0.5, 1.0)
    noise = rng.normal(0, rng.uniform(0, 0.25), coverage.shape)
    noisy = np.clip(confidence * coverage + noise * (coverage > 0), 0, 1)
    # A pseudo mask is 0 outside its class's foreground, and now and then catches a stray patch.
    stray = rng.uniform(size=coverage.shape) < rng.uniform(0, 0.03)
    return np.where(stray, rng.uniform(0.1, 0.6), noisy).astype(np.float32)


def _coarse_logits(masks: Tensor) -> Tensor:
    """(prompts, H, W) in [0, 1] to logits (prompts, 4 H, 4 W), as ESC-Net's SAM block does."""
    logits = pseudo_mask_logits(masks, _MASK_THRESHOLD)
    size = [4 * side for side in masks.shape[1:]]
    return F.interpolate(logits.unsqueeze(1), size=size, mode="bilinear").squeeze(1)
