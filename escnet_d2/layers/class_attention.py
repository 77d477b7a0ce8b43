"""Linear attention over the classes at each pixel, guided by text (ESC-Net section 3.4).

Shapes: B images, K classes, H x W patches, C channels, D channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .class_subsets import map_rows
from .feed_forward import FeedForward

# Least weight of a class in the sums over them.
_EPSILON = 1e-6


class ClassAttention(nn.Module):
    """Lets the classes of one pixel see each other; their number and order do not matter.

    Queries and keys take the embedded correlation plus the class's text features, values the
    correlation alone; no position embedding. The sums over the classes run in float32.
    """

    def __init__(self, *, dim: int, text_dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.text_query = nn.Linear(text_dim, dim, bias=False)
        self.text_key = nn.Linear(text_dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, text: Tensor, chunk_size: int = 0) -> Tensor:
        """Attends over dimension K.

        Args:
            x: embedded correlation, (B, K, H, W, C).
            text: text features, (B, K, text_dim).
            chunk_size: of :func:`map_rows`.

        Returns:
            (B, K, H, W, C).
        """
        text_query = self._heads(self.text_query(text))[:, :, None, None]
        text_key = self._heads(self.text_key(text))[:, :, None, None]
        return map_rows(lambda part: self._attend(part, text_query, text_key), x, chunk_size)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1))

    def _attend(self, x: Tensor, text_query: Tensor, text_key: Tensor) -> Tensor:
        normed = self.norm1(x)
        query = positive(self._heads(self.query(normed)) + text_query)
        key = positive(self._heads(self.key(normed)) + text_key)
        value = at_least_float32(self._heads(self.value(normed)))
        with torch.autocast(x.device.type, enabled=False):
            context = torch.einsum("bkhwnd,bkhwne->bhwnde", key, value)
            weight = torch.einsum("bkhwnd,bhwnd->bkhwn", query, key.sum(dim=1))
            out = torch.einsum("bkhwnd,bhwnde->bkhwne", query, context)
            out = out / weight.unsqueeze(-1).clamp(min=_EPSILON * x.shape[1])
        x = x + self.out(out.flatten(-2).to(x.dtype))
        return x + self.mlp(self.norm2(x))


def positive(x: Tensor) -> Tensor:
    """Applies the feature map elu + 1 of linear attention (Katharopoulos et al., 2020).

    Where no gradient is wanted, as exp(min(x, 0)) + max(x, 0): on CPUs elu's own exponential is not
    vectorized, and took a quarter of the layer's time.
    """
    x = at_least_float32(x)
    if x.requires_grad:
        return F.elu(x) + 1.0
    return x.clamp(max=0).exp_().add_(x.clamp(min=0))


def at_least_float32(x: Tensor) -> Tensor:
    """Raises half precision to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
