"""The operator ``escnet_d2::masked_kmeans`` in plain torch, for any device.

It is used where no compiled kernel is. Positions and centers are integers in fixed point, chosen so
that every intermediate value is an integer of at most 2^24: a float32 computation of them is exact,
whatever its order, device or vector width.

Shapes: M maps of L = H * W pixels, of which T are foreground in all, k clusters each.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_SIDE = 128
MAX_CLUSTERS = 8
FLOAT_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def check_arguments(scores: Tensor, mask: Tensor, k: int, max_iter: int) -> None:
    """Raises ``ValueError`` unless the arguments are as ``masked_kmeans`` takes them."""
    if scores.dim() < 2 or scores.shape != mask.shape:
        raise ValueError(
            "scores and mask must both be (..., H, W), "
            f"got {tuple(scores.shape)} and {tuple(mask.shape)}."
        )
    if scores.dtype not in FLOAT_TYPES:
        raise ValueError(f"scores must be float32, float16 or bfloat16, got {scores.dtype}.")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool, got {mask.dtype}.")
    if scores.device != mask.device:
        raise ValueError(f"scores are on {scores.device}, mask is on {mask.device}.")
    if not 1 <= min(scores.shape[-2:]) <= max(scores.shape[-2:]) <= MAX_SIDE:
        raise ValueError(f"H and W must be 1 to {MAX_SIDE}, got {tuple(scores.shape[-2:])}.")
    if not 1 <= k <= MAX_CLUSTERS:
        raise ValueError(f"k must be 1 to {MAX_CLUSTERS}, got {k}.")
    if max_iter < 0:
        raise ValueError(f"max_iter must be 0 or more, got {max_iter}.")


@torch.no_grad()
def kmeans_reference(
    scores: Tensor, mask: Tensor, k: int = 5, max_iter: int = 10
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes what ``escnet_d2.layers.masked_kmeans`` describes; arguments as there."""
    check_arguments(scores, mask, k, max_iter)
    leading, (height, width) = scores.shape[:-2], scores.shape[-2:]
    num_maps, num_pixels = leading.numel(), height * width
    foreground = _Foreground(
        scores.reshape(num_maps, num_pixels), mask.reshape(num_maps, num_pixels), width, k
    )
    labels, centers, counts, points = foreground.cluster(max_iter)
    return (
        labels.reshape(scores.shape),
        centers.reshape(*leading, k, 2),
        counts.reshape(*leading, k),
        points.reshape(*leading, k),
    )


def _score_rank(scores: Tensor) -> Tensor:
    """int64 numbers of 0 to 2^32 - 1 in the order of the scores; NaN lowest, both zeros equal."""
    scores = scores.float() + 0.0
    bits = scores.view(torch.int32).long()
    ordered = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + (1 << 31)
    return ordered.masked_fill(scores.isnan(), 0)


def _fraction_bits(side: int) -> int:
    """Fraction bits q of the centers: 2 log2(side) + 2 q + 1 <= 24."""
    return 6 if side <= 32 else 5 if side <= 64 else 4


class _Foreground:
    """The foreground pixels of all maps in one row of T, in the order of map and flat index."""

    def __init__(self, scores: Tensor, mask: Tensor, width: int, k: int) -> None:
        self.num_maps, self.num_pixels = mask.shape
        self.width = width
        self.k = k
        self.scale = 1 << _fraction_bits(max(width, self.num_pixels // width))
        self.map, self.pixel = mask.nonzero().unbind(1)
        self.score_key = self._key(_score_rank(scores[mask]))
        self.x, self.y = self._position(self.pixel)

    def cluster(self, max_iter: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns labels (M, L), centers (M, k, 2), counts (M, k) and points (M, k)."""
        centers, exists = self._seed()
        for _ in range(max_iter):
            moved = self._means(self._nearest(centers, exists), centers)
            if torch.equal(moved, centers):
                break
            centers = moved
        nearest = self._nearest(centers, exists)
        cluster = self.map * self.k + nearest
        labels = self.map.new_full((self.num_maps, self.num_pixels), -1, dtype=torch.int8)
        labels[self.map, self.pixel] = nearest.to(torch.int8)
        counts = cluster.bincount(minlength=self.num_maps * self.k).view(self.num_maps, self.k)
        best = self._highest(self.score_key, cluster, self.num_maps * self.k).view_as(counts)
        points = torch.where(counts > 0, self._pixel_of(best), -1)
        centers = (centers / self.scale).movedim(0, 2).contiguous()
        return labels, centers, counts.int(), points.int()

    def _position(self, pixel: Tensor) -> tuple[Tensor, Tensor]:
        return (pixel % self.width).float(), (pixel // self.width).float()

    def _key(self, value: Tensor) -> Tensor:
        """(T,) numbers that order pixels by value, and those of equal value by lower index."""
        return value * self.num_pixels + (self.num_pixels - 1 - self.pixel)

    def _pixel_of(self, key: Tensor) -> Tensor:
        return self.num_pixels - 1 - key % self.num_pixels

    @staticmethod
    def _highest(key: Tensor, group: Tensor, num_groups: int) -> Tensor:
        """(num_groups,) largest key of each group, 0 for empty ones."""
        return key.new_zeros(num_groups).scatter_reduce_(0, group, key, "amax")

    def _seed(self) -> tuple[Tensor, Tensor]:
        """Picks centers farthest first, (2, M, k) in fixed point; tells if each exists (M, k)."""
        count = self.map.bincount(minlength=self.num_maps)
        exists = torch.arange(self.k, device=count.device) < count.unsqueeze(1)
        chosen = [self._pixel_of(self._highest(self.score_key, self.map, self.num_maps))]
        nearest = torch.full_like(self.map, 1 << 30)
        for _ in range(1, self.k):
            x, y = self._position(chosen[-1])
            distance = (self.x - x.index_select(0, self.map)).square()
            distance += (self.y - y.index_select(0, self.map)).square()
            nearest = torch.minimum(nearest, distance.long())
            farthest = self._highest(self._key(nearest), self.map, self.num_maps)
            chosen.append(self._pixel_of(farthest))
        positions = torch.stack(self._position(torch.stack(chosen, dim=1)))
        return positions * self.scale * exists, exists

    def _nearest(self, centers: Tensor, exists: Tensor) -> Tensor:
        """Returns the nearest center that exists of each pixel (T,), the lowest of several."""
        # |c|^2 - 2 p c orders centers as |p - c|^2 does, and is as exact. No matrix product: TF32
        # and autocast would round it.
        slopes = (-2.0 * self.scale) * centers
        squared = centers.square().sum(dim=0).masked_fill(~exists, float("inf"))
        terms = torch.stack([squared, *slopes]).permute(2, 0, 1).contiguous()  # (k, 3, M)
        label = torch.zeros_like(self.map)
        best = None
        for cluster in range(self.k):
            constant, slope_x, slope_y = (term.index_select(0, self.map) for term in terms[cluster])
            distance = constant.addcmul_(slope_x, self.x).addcmul_(slope_y, self.y)
            if best is None:
                best = distance
                continue
            label = torch.where(distance < best, cluster, label)
            best = torch.minimum(best, distance)
        return label

    def _means(self, nearest: Tensor, centers: Tensor) -> Tensor:
        """Returns the means of the clusters, rounded half up in fixed point; empty ones stay."""
        cluster = self.map * self.k + nearest
        ones = torch.ones_like(self.x)
        # Sums of at most 2^14 positions below 2^7: exact in any order.
        sums = torch.stack(
            [
                values.new_zeros(self.num_maps * self.k).index_add_(0, cluster, values)
                for values in (self.x, self.y, ones)
            ]
        )
        *positions, counts = sums.view(3, self.num_maps, self.k).long()
        doubled = 2 * self.scale * torch.stack(positions) + counts
        means = torch.div(doubled, 2 * counts.clamp(min=1), rounding_mode="floor")
        return torch.where(counts > 0, means.float(), centers)
