"""Linear attention over the classes at each pixel, guided by text (ESC-Net section 3.4).

Shapes: B images, K classes, H x W patches, C channels, D channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .class_subsets import class_chunks
from .feed_forward import FeedForward


class ClassAttention(nn.Module):
    """Lets the classes of one pixel see each other; their number and order do not matter.

    Queries and keys take the embedded correlation plus the class's text features, values the
    correlation alone; no position embedding. The sums over the classes run in float32 and chunk by
    chunk, so that the memory of intermediate results does not grow with K.
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
            chunk_size: classes at a time, 0 for all.

        Returns:
            (B, K, H, W, C).
        """
        text_query = self._heads(self.text_query(text))[:, :, None, None]
        text_key = self._heads(self.text_key(text))[:, :, None, None]
        chunks = class_chunks(x.shape[1], chunk_size)
        context, key_sum = self._context(x, text_key, chunks)
        return torch.cat(
            [self._attend(x[:, c], text_query[:, c], context, key_sum) for c in chunks], dim=1
        )

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1))

    def _context(self, x: Tensor, text_key: Tensor, chunks: list[slice]) -> tuple[Tensor, Tensor]:
        """Sums over the classes key value^T (B, H, W, heads, D, D), and the keys."""
        context = key_sum = None
        for chunk in chunks:
            normed = self.norm1(x[:, chunk])
            # Divided by K against overflow in half-precision inputs; cancels in the quotient.
            key = _positive(self._heads(self.key(normed)) + text_key[:, chunk]) / x.shape[1]
            value = at_least_float32(self._heads(self.value(normed)))
            with torch.autocast(x.device.type, enabled=False):
                part = torch.einsum("bkhwnd,bkhwne->bhwnde", key, value)
                keys = key.sum(dim=1)
            context = part if context is None else context + part
            key_sum = keys if key_sum is None else key_sum + keys
        return context, key_sum

    def _attend(self, x: Tensor, text_query: Tensor, context: Tensor, key_sum: Tensor) -> Tensor:
        query = _positive(self._heads(self.query(self.norm1(x))) + text_query)
        with torch.autocast(x.device.type, enabled=False):
            weight = torch.einsum("bkhwnd,bhwnd->bkhwn", query, key_sum)
            out = torch.einsum("bkhwnd,bhwnde->bkhwne", query, context)
            out = out / weight.unsqueeze(-1).clamp(min=1e-6)
        x = x + self.out(out.flatten(-2).to(x.dtype))
        return x + self.mlp(self.norm2(x))


def _positive(x: Tensor) -> Tensor:
    """Applies the feature map elu + 1 of linear attention (Katharopoulos et al., 2020)."""
    return F.elu(at_least_float32(x)) + 1.0


def at_least_float32(x: Tensor) -> Tensor:
    """Raises half precision to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
