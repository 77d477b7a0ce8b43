"""Measures how well a SAM finds the masks that prompts mean."""

from __future__ import annotations

import torch

from .prompt_batches import PromptBatches
from .tiny_sam import PromptedSam, mask_iou

_BATCH_SIZE = 20
# Name of the score: form of the prompt, number of points.
_PROBES = {
    "one_point": ("points", 1),
    "five_points": ("points", 5),
    "mask": ("mask", 1),
    "five_points_and_mask": ("both", 5),
}


@torch.no_grad()
def sam_accuracy(model: PromptedSam, batches: PromptBatches) -> dict[str, float]:
    """Mean IoU over prompts of each form, in [0, 1], at SAM's low resolution.

    Args:
        model: in eval mode.
        batches: of the split to measure on.
    """
    scores = {}
    for name, (kind, num_points) in _PROBES.items():
        ious = []
        for start in range(0, len(batches.images), _BATCH_SIZE):
            indices = range(start, min(start + _BATCH_SIZE, len(batches.images)))
            batch = batches.probe(indices, kind, num_points)
            logits, _ = model.predict(batch, model.encode(batch.images))
            ious.append(mask_iou(logits > 0, batch.targets).flatten())
        scores[name] = float(torch.cat(ious).mean())
    return scores
