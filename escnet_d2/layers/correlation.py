"""Image-text correlation (ESC-Net eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def image_text_correlation(image_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
    """Computes the cosine similarity of every patch with every prompted class name.

    Both inputs are L2-normalized here, so callers may pass raw CLIP outputs. Always computed in
    float32: CLIP's temperature of 100 would turn half-precision rounding into visible noise.

    Args:
        image_embeddings: dense CLIP features, shape (B, C, H, W).
        text_embeddings: shape (K, P, C), one vocabulary for the whole batch, or (B, K, P, C).

    Returns:
        Correlation maps in [-1, 1], shape (B, P, K, H, W), float32.
    """
    with torch.autocast(image_embeddings.device.type, enabled=False):
        image = F.normalize(image_embeddings.float(), dim=1)
        text = F.normalize(text_embeddings.float(), dim=-1)
        if text.dim() == 3:
            text = text.expand(image.shape[0], -1, -1, -1)
        return torch.einsum("bchw,bkpc->bpkhw", image, text)
