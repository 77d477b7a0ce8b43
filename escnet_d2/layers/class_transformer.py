"""Attention over the classes of each patch as in CAT-Seg and SED, under the releases' names.

Shapes: B images, K classes, H x W patches, h x w after pooling, C channels, G text channels, D
channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .class_attention import at_least_float32, positive
from .class_subsets import map_rows
from .guided_linear import GuidedProjections

ATTENTION_TYPES = ("linear", "full")
_EPSILON = 1e-6


class ClassTransformer(nn.Module):
    """Lets the classes of a patch see each other, on a pooled map.

    CAT-Seg's release fills up the classes with copies of a learned token, to ``pad_length`` in all,
    which the others attend to. Copies are equal, so one of them is computed and counted as many
    times as it stands for.
    """

    def __init__(
        self,
        *,
        dim: int,
        text_dim: int,
        num_heads: int,
        pooling: Sequence[int],
        test_pooling: Sequence[int] = (1, 1),
        attention_type: str = "linear",
        pad_length: int = 0,
    ) -> None:
        """Sizes of the layer.

        Args:
            dim: C.
            text_dim: G; 0 for a layer without text guidance.
            num_heads: divides C.
            pooling: patches that are averaged in training, (rows, columns).
            test_pooling: likewise in testing.
            attention_type: "linear" or "full".
            pad_length: classes to fill up to; 0 for none.

        Raises:
            ValueError: another attention type or pooling.
        """
        super().__init__()
        if attention_type not in ATTENTION_TYPES:
            raise ValueError(
                "MODEL.SEM_SEG_HEAD.ATTENTION_TYPE must be one of "
                f"{', '.join(ATTENTION_TYPES)}, got {attention_type!r}."
            )
        for node, sizes in (("MODEL.SEM_SEG_HEAD", pooling), ("TEST", test_pooling)):
            if len(sizes) != 2 or min(sizes) < 1:
                raise ValueError(
                    f"{node}.POOLING_SIZES must be two numbers of 1 or more, got {list(sizes)}."
                )
        self.pooling, self.test_pooling = tuple(pooling), tuple(test_pooling)
        self.attention_type = attention_type
        self.pad_length = pad_length
        self.num_heads = num_heads
        # The releases project the result of the attention no further.
        self.attention = GuidedProjections(dim, text_dim)
        self.MLP = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.ReLU(inplace=True), nn.Linear(4 * dim, dim)
        )
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, dim)) if pad_length else None
        self.padding_guidance = (
            nn.Parameter(torch.zeros(1, 1, text_dim)) if pad_length and text_dim else None
        )

    def forward(self, x: Tensor, text: Tensor | None = None, chunk_size: int = 0) -> Tensor:
        """Attends over dimension K.

        Args:
            x: (B, K, H, W, C).
            text: (B, K, G).
            chunk_size: of :func:`map_rows`, on the pooled map.

        Returns:
            (B, K, H, W, C).
        """
        guidance = None if text is None else text[:, :, None, None]
        refined = map_rows(lambda part: self._refine(part, guidance), self._pool(x), chunk_size)
        return x + self._unpool(refined, x.shape[2:4])

    def _refine(self, x: Tensor, guidance: Tensor | None) -> Tensor:
        x = x + self._attend(self.norm1(x), guidance)
        return x + self.MLP(self.norm2(x))

    def _pool(self, x: Tensor) -> Tensor:
        sizes = self.pooling if self.training else self.test_pooling
        if sizes == (1, 1):
            return x
        maps = F.avg_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), sizes)
        return maps.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])

    def _unpool(self, x: Tensor, size: Sequence[int]) -> Tensor:
        if x.shape[2:4] == tuple(size):
            return x
        maps = x.flatten(0, 1).permute(0, 3, 1, 2)
        maps = F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)
        return maps.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])

    def _attend(self, x: Tensor, guidance: Tensor | None) -> Tensor:
        query, key, value = self._heads(x, guidance)
        missing = max(self.pad_length - x.shape[1], 0)
        padding = None
        # In training even for no copy: distributed training asks every weight for a gradient.
        if missing or (self.pad_length and self.training):
            token = self.norm1(self.padding_tokens)[0, 0]
            text = None if self.padding_guidance is None else self.padding_guidance[0, 0]
            # Keys and values alone: what the copies attend to is not used.
            _, *padding = self._heads(token, text)
        attend = _linear_attention if self.attention_type == "linear" else _full_attention
        with torch.autocast(x.device.type, enabled=False):
            out = attend(query, key, value, padding, missing)
        return out.flatten(-2).to(x.dtype)

    def _heads(self, x: Tensor, guidance: Tensor | None) -> list[Tensor]:
        """Projects to queries, keys and values, (..., heads, D) each."""
        return [
            at_least_float32(part.unflatten(-1, (self.num_heads, -1)))
            for part in self.attention(x, guidance)
        ]


def _linear_attention(
    query: Tensor, key: Tensor, value: Tensor, padding: list[Tensor] | None, missing: int
) -> Tensor:
    """Attends linearly (Katharopoulos et al., 2020) over the classes, (B, K, h, w, heads, D).

    ``missing`` copies of one more token, ``padding``, take part: its key and value, (heads, D).
    """
    query, key = positive(query), positive(key)
    context = torch.einsum("bkhwnd,bkhwne->bhwnde", key, value)
    key_sum = key.sum(dim=1)
    if padding is not None:
        pad_key, pad_value = positive(padding[0]), padding[1]
        context = context + missing * torch.einsum("nd,ne->nde", pad_key, pad_value)
        key_sum = key_sum + missing * pad_key
    weight = torch.einsum("bkhwnd,bhwnd->bkhwn", query, key_sum) + _EPSILON
    out = torch.einsum("bkhwnd,bhwnde->bkhwne", query, context)
    return out / weight.unsqueeze(-1)


def _full_attention(
    query: Tensor, key: Tensor, value: Tensor, padding: list[Tensor] | None, missing: int
) -> Tensor:
    """Attends by a softmax; arguments as :func:`_linear_attention`."""
    scale = query.shape[-1] ** -0.5
    logits = scale * torch.einsum("bkhwnd,blhwnd->bhwnkl", query, key)
    if padding is None:
        return torch.einsum("bhwnkl,blhwne->bkhwne", logits.softmax(dim=-1), value)
    pad_logit = scale * torch.einsum("bkhwnd,nd->bhwnk", query, padding[0]).unsqueeze(-1)
    # One key that counts for many adds the logarithm of their number to its logit.
    pad_logit = pad_logit + torch.tensor(float(missing)).log().to(pad_logit.device)
    weights = torch.cat([logits, pad_logit], dim=-1).softmax(dim=-1)
    out = torch.einsum("bhwnkl,blhwne->bkhwne", weights[..., :-1], value)
    return out + torch.einsum("bhwnk,ne->bkhwne", weights[..., -1], padding[1])
