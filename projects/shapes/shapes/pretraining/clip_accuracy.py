"""Measures how well a CLIP names the things of scenes that it did not train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..splits import read_captions, read_images
from ..world import THINGS, Thing
from .captions import SENTENCES, Phrase
from .region_batches import box_weights, described_things
from .region_clip import RegionClip

_BATCH_SIZE = 50


@torch.no_grad()
def clip_accuracy(model: RegionClip, folder: Path) -> dict[str, float]:
    """Names every box of a split by the nearest of the 60 names of things.

    Args:
        model: in eval mode.
        folder: of the split.

    Returns:
        Shares in [0, 1]: ``texture``, ``color``, ``shape`` and ``name`` (all three) of pooled
        boxes, the same with the prefix ``patch_`` for the patch at the middle of each box, and
        ``unseen_name`` for boxes of the classes without masks.
    """
    images, scenes = read_images(folder), read_captions(folder)
    text = model.clip.text.encode_sentences([SENTENCES[0].format(thing.name) for thing in THINGS])
    correct: dict[str, list[bool]] = {}
    for start in range(0, len(images), _BATCH_SIZE):
        batch = images[start : start + _BATCH_SIZE]
        pooling, owner, items = [], [], []
        for row, scene in enumerate(scenes[start : start + _BATCH_SIZE]):
            for item, box in described_things(scene):
                weights = box_weights(box, batch.shape[1:3], model.cell_size)
                middle = np.zeros_like(weights)
                middle.flat[weights.argmax()] = 1
                pooling += [weights.ravel(), middle.ravel()]
                owner += [row, row]
                items.append(item)
        features = model.region_features(
            model.prepare(torch.from_numpy(batch).permute(0, 3, 1, 2)),
            torch.from_numpy(np.stack(pooling)).float(),
            torch.tensor(owner),
        )
        best = (features @ text.t()).argmax(dim=1).unflatten(0, (-1, 2)).tolist()
        for item, (region, patch) in zip(items, best):
            _compare(correct, "", item, region)
            _compare(correct, "patch_", item, patch)
    return {name: float(np.mean(values)) for name, values in correct.items()}


def _compare(correct: dict[str, list[bool]], prefix: str, item: Phrase, predicted: int) -> None:
    thing = THINGS[predicted]
    same = [getattr(thing, name) == getattr(item, name) for name in ("texture", "color", "shape")]
    for name, value in zip(("texture", "color", "shape", "name"), [*same, all(same)]):
        correct.setdefault(prefix + name, []).append(value)
    if Thing(item.texture, item.color, item.shape).is_unseen:
        correct.setdefault(prefix + "unseen_name", []).append(all(same))
