"""Tensors that travel between the parts of a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ClipFeatures:
    """Features of B images from CLIP, on the H x W grid of its patches.

    Attributes:
        dense: (B, C, H, W) in the space that images and text share, not normalized.
        intermediate: outputs of blocks, each (B, width, H, W), or of a ConvNeXt's stages, each
            (B, channels, h, w); shallow to deep.
    """

    dense: Tensor
    intermediate: tuple[Tensor, ...]

    def images(self) -> list[ClipFeatures]:
        """Returns the features of each image alone, B = 1."""
        parts = zip(*(maps.split(1) for maps in (self.dense, *self.intermediate)))
        return [ClipFeatures(dense, tuple(others)) for dense, *others in parts]


@dataclass(frozen=True)
class PseudoPrompts:
    """Prompts for SAM from B x K class maps (ESC-Net section 3.2); without gradient.

    Attributes:
        points: float32 (B, K, N, 2), (x, y) of pseudo points in patches; pixel (0, 0) is the center
            of the first patch.
        point_labels: int64 (B, K, N), SAM's labels: 1 a foreground point, -1 not a point.
        masks: float32 (B, K, H, W), probability in [0, 1] inside the regions, 0 outside: the N
            pseudo masks of a class do not overlap and share one map.
        regions: int8 (B, K, H, W), region of each patch, -1 on the background.
    """

    points: Tensor
    point_labels: Tensor
    masks: Tensor
    regions: Tensor

    @property
    def has_foreground(self) -> Tensor:
        """Bool (B, K): classes with at least one pseudo point."""
        return (self.point_labels == 1).any(dim=2)
