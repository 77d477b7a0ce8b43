"""Linear layers on features that are joined by guidance shared along some dimensions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def guided_linear(layer: nn.Linear, x: Tensor, guidance: Tensor | None) -> Tensor:
    """Applies ``layer`` to ``x`` joined by ``guidance``, without repeating the guidance.

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


class GuidedProjections(nn.Module):
    """Queries, keys and values of attention, the first two guided, under the releases' names."""

    def __init__(self, dim: int, guidance_dim: int) -> None:
        super().__init__()
        self.q = nn.Linear(dim + guidance_dim, dim)
        self.k = nn.Linear(dim + guidance_dim, dim)
        self.v = nn.Linear(dim, dim)

    def forward(self, x: Tensor, guidance: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Projects to queries, keys and values, each like ``x``."""
        return guided_linear(self.q, x, guidance), guided_linear(self.k, x, guidance), self.v(x)
