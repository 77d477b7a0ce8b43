"""Batches for :class:`RegionClip` from the split ``pretrain`` of the data set ``shapes``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..splits import read_captions, read_images
from .captions import FULL_PHRASES, SENTENCES, Phrase, drop_attributes, truth_table
from .region_clip import RegionBatch

# A box is described only where most of the thing can be seen.
_MIN_VISIBLE = 0.6
# Boxes shrink about their center, since their corners show the ground.
_BOX_SHARE = 0.75
_DROP_PROBABILITY = 0.5
_IMAGE_LOSS_PERIOD = 8
# Grounds are few and easy: this many of them in an image.
_MAX_STUFF = 2


class RegionBatches:
    """Endless batches; those of an iteration depend only on the seed and the iteration."""

    def __init__(self, folder: Path, *, patch_size: int, batch_size: int, seed: int) -> None:
        """Reads the split into memory.

        Args:
            folder: of the split.
            patch_size: of CLIP, in pixels.
            batch_size: images.
            seed: of all randomness.
        """
        self.images = read_images(folder)
        self.scenes = read_captions(folder)
        self.patch_size = patch_size
        self.batch_size = batch_size
        self.seed = seed

    def __call__(self, start: int) -> Iterator[RegionBatch]:
        """Returns the batches from iteration ``start`` on."""
        return map(self.batch, count(start))

    def batch(self, iteration: int) -> RegionBatch:
        """The batch of one iteration."""
        rng = np.random.RandomState([self.seed, iteration])
        chosen = rng.randint(0, len(self.images), self.batch_size)
        sentence = SENTENCES[rng.randint(len(SENTENCES))]
        pictures, pooling, owner, items = [], [], [], []
        for row, index in enumerate(chosen):
            mirrored = rng.uniform() < 0.5
            picture = self.images[index]
            pictures.append(picture[:, ::-1] if mirrored else picture)
            for item, box in self._described(rng, self.scenes[index]):
                weights = box_weights(box, picture.shape[:2], self.patch_size)
                if mirrored:
                    weights = weights[:, ::-1]
                pooling.append(weights.ravel())
                owner.append(row)
                items.append(item)
        drawn = [drop_attributes(rng, item, _DROP_PROBABILITY) for item in items]
        # All complete names stand among the phrases as negatives.
        phrases = list(dict.fromkeys([*FULL_PHRASES, *drawn]))
        position = {phrase: index for index, phrase in enumerate(phrases)}
        captions = None
        if iteration % _IMAGE_LOSS_PERIOD == 0:
            captions = [self.scenes[index]["caption"] for index in chosen]
        return RegionBatch(
            images=torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(),
            pooling=torch.from_numpy(np.stack(pooling)).float(),
            owner=torch.tensor(owner),
            phrases=[sentence.format(phrase.text) for phrase in phrases],
            target=torch.tensor([position[phrase] for phrase in drawn]),
            is_true=torch.from_numpy(truth_table(phrases, items)),
            captions=captions,
        )

    def _described(
        self, rng: np.random.RandomState, scene: dict[str, Any]
    ) -> list[tuple[Phrase, Sequence[int]]]:
        things = described_things(scene)
        stuff = [(Phrase(ground=entry["kind"]), entry["box"]) for entry in scene["stuff"]]
        return things + [stuff[index] for index in rng.permutation(len(stuff))[:_MAX_STUFF]]


def described_things(scene: dict[str, Any]) -> list[tuple[Phrase, Sequence[int]]]:
    """Complete phrase and box of each thing that can be seen well enough."""
    return [
        (Phrase(entry["texture"], entry["color"], entry["shape"]), entry["box"])
        for entry in scene["things"]
        if entry["visible"] >= _MIN_VISIBLE
    ]


def box_weights(box: Sequence[int], size: tuple[int, int], patch_size: int) -> np.ndarray:
    """Share of each patch in the inner part of a box, (H, W), summing to 1.

    Args:
        box: (left, top, right, bottom) in pixels.
        size: (height, width) of the image in pixels.
        patch_size: in pixels.
    """
    left, top, right, bottom = box
    columns = _overlap(left, right, size[1], patch_size)
    rows = _overlap(top, bottom, size[0], patch_size)
    weights = rows[:, None] * columns[None]
    return weights / weights.sum()


def _overlap(low: float, high: float, size: int, patch_size: int) -> np.ndarray:
    """Length of the inner part of an interval in each cell of a grid."""
    margin = (high - low) * (1 - _BOX_SHARE) / 2
    edges = np.arange(0, size + 1, patch_size)
    return np.clip(
        np.minimum(edges[1:], high - margin) - np.maximum(edges[:-1], low + margin), 0, None
    )
