"""Self-attention with separate q, k and v weights, so that q and v can train while k is frozen."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SplitAttention(nn.Module):
    """Stands in for ``nn.MultiheadAttention`` in open_clip's blocks, batch first.

    OpenAI's and open_clip's checkpoints store one ``in_proj_weight``; it is split on loading. The
    CAT-Seg release stores the three weights under the names used here.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj_weight = nn.Parameter(torch.empty(dim, dim))
        self.k_proj_weight = nn.Parameter(torch.empty(dim, dim))
        self.v_proj_weight = nn.Parameter(torch.empty(dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    @classmethod
    def from_joint(cls, attention: nn.MultiheadAttention) -> SplitAttention:
        """Takes over the weights of torch's module."""
        split = cls(attention.embed_dim, attention.num_heads)
        split.load_state_dict(attention.state_dict())
        return split

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attends as torch's module does, from (N, L, C) to (N, S, C); returns no weights.

        Raises:
            ValueError: ``need_weights`` was asked for.
        """
        if need_weights:
            raise ValueError("SplitAttention does not return attention weights.")
        q_bias, k_bias, _ = self.in_proj_bias.chunk(3)
        q = self._heads(F.linear(query, self.q_proj_weight, q_bias))
        k = self._heads(F.linear(key, self.k_proj_weight, k_bias))
        v = self._heads(self.project_value(value))
        mask = None if attn_mask is None else attn_mask.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2)), None

    def project_value(self, x: Tensor) -> Tensor:
        """Projects to values only, (N, L, C) to (N, L, C)."""
        return F.linear(x, self.v_proj_weight, self.in_proj_bias.chunk(3)[2])

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        joint = state_dict.pop(prefix + "in_proj_weight", None)
        if joint is not None:
            for name, part in zip("qkv", joint.chunk(3)):
                state_dict[f"{prefix}{name}_proj_weight"] = part
        super()._load_from_state_dict(state_dict, prefix, *args)
