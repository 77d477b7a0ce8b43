"""Linear layers on features that are joined by guidance shared along some dimensions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def guided_linear(layer: nn.Linear, x: Tensor, guidance: Tensor | None) -> Tensor:
    """``layer`` of the concatenation of ``x`` and ``guidance``, without repeating the guidance.

    Args:
        layer: of C + G inputs, or of C without guidance.
        x: (..., C).
        guidance: (..., G), whose leading dimensions broadcast against those of ``x``.

    Returns:
        (..., outputs).
    """
    if guidance is None:
        return layer(x)
    own, shared = layer.weight.split([x.shape[-1], guidance.shape[-1]], dim=1)
    return F.linear(x, own) + F.linear(guidance, shared, layer.bias)
