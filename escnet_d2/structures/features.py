"""What CLIP's image tower gives to the head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ClipFeatures:
    """Features of B images on the H x W grid of CLIP's patches.

    Attributes:
        dense: (B, C, H, W) in the space that images and text share, not normalised.
        intermediate: outputs of earlier blocks, each (B, width, H, W), shallow to deep.
    """

    dense: Tensor
    intermediate: tuple[Tensor, ...]
