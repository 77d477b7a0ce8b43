"""k-means over the positions of the foreground pixels of many maps at once.

The exact semantics of the operator ``escnet_d2::masked_kmeans``, in plain torch. Positions and
centres are integers in fixed point, chosen so that every intermediate value stays below 2^24: a
float32 computation of them is exact, whatever its order, device or vector width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MAX_SIDE = 128
MAX_CLUSTERS = 8


class Clusters(NamedTuple):
    """Result of :func:`masked_kmeans`; ``...`` are the leading dimensions of its input.

    Attributes:
        labels: int8 (..., H, W), cluster of each pixel, -1 on the background.
        centers: float32 (..., k, 2), (x, y) in pixels; (0, 0) for clusters that never had a pixel.
        counts: int32 (..., k), pixels per cluster; a cluster is valid when its count is above 0.
        points: int32 (..., k), flat index of the best-scoring pixel of each cluster, -1 if invalid.
    """

    labels: Tensor
    centers: Tensor
    counts: Tensor
    points: Tensor


@torch.no_grad()
def masked_kmeans(scores: Tensor, mask: Tensor, k: int = 5, max_iter: int = 10) -> Clusters:
    """Clusters the positions of the foreground pixels of each map; deterministic.

    The first centre is the best-scoring pixel, the others follow farthest-first (maximin); Lloyd
    iterations run until no centre moves. Ties go to the lowest index. NaN scores rank lowest. With
    fewer foreground pixels than k each is a cluster of its own and the rest are invalid; a cluster
    that loses all its pixels keeps its centre. No gradient.

    Args:
        scores: (..., H, W) float32, float16 or bfloat16; one problem per leading index.
        mask: (..., H, W) bool, the foreground.
        k: clusters, 1 to 8.
        max_iter: Lloyd iterations at most, 0 or more.

    Returns:
        See :class:`Clusters`.

    Raises:
        ValueError: shapes, types or ranges other than these.
    """
    _check(scores, mask, k, max_iter)
    leading, (height, width) = scores.shape[:-2], scores.shape[-2:]
    num_pixels = height * width
    num_maps = leading.numel()
    device = scores.device
    flat_mask = mask.reshape(num_maps, num_pixels)

    labels = torch.full((num_maps, num_pixels), -1, dtype=torch.int8, device=device)
    centers = torch.zeros(num_maps, k, 2, device=device)
    counts = torch.zeros(num_maps, k, dtype=torch.int32, device=device)
    points = torch.full((num_maps, k), -1, dtype=torch.int32, device=device)

    # Most class maps of an image are empty: only the others are worth the work.
    busy = flat_mask.any(dim=1).nonzero().squeeze(1)
    if len(busy):
        foreground = flat_mask[busy]
        rank = _pixel_rank(scores.reshape(num_maps, num_pixels)[busy], foreground)
        problem = _Problem(foreground, rank, height, width, k)
        # Autocast would round positions to half precision.
        with torch.autocast(device.type, enabled=False):
            busy_labels, busy_centers, busy_counts, busy_points = problem.solve(max_iter)
        labels[busy] = busy_labels
        centers[busy] = busy_centers
        counts[busy] = busy_counts
        points[busy] = busy_points
    return Clusters(
        labels.reshape(scores.shape),
        centers.reshape(*leading, k, 2),
        counts.reshape(*leading, k),
        points.reshape(*leading, k),
    )


def _check(scores: Tensor, mask: Tensor, k: int, max_iter: int) -> None:
    if scores.dim() < 2 or scores.shape != mask.shape:
        raise ValueError(
            "scores and mask must both be (..., H, W), "
            f"got {tuple(scores.shape)} and {tuple(mask.shape)}."
        )
    if scores.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"scores must be float32, float16 or bfloat16, got {scores.dtype}.")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool, got {mask.dtype}.")
    if not 1 <= min(scores.shape[-2:]) <= max(scores.shape[-2:]) <= MAX_SIDE:
        raise ValueError(f"H and W must be 1 to {MAX_SIDE}, got {tuple(scores.shape[-2:])}.")
    if not 1 <= k <= MAX_CLUSTERS:
        raise ValueError(f"k must be 1 to {MAX_CLUSTERS}, got {k}.")
    if max_iter < 0:
        raise ValueError(f"max_iter must be 0 or more, got {max_iter}.")


def _pixel_rank(scores: Tensor, foreground: Tensor) -> Tensor:
    """int64 (M, L) keys whose order is: higher score first, then lower index; background -1."""
    scores = scores.float() + 0.0  # -0.0 equals 0.0
    bits = scores.view(torch.int32).long()
    ordered = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + (1 << 31)
    ordered = torch.where(scores.isnan(), torch.zeros_like(ordered), ordered)
    num_pixels = scores.shape[1]
    reverse_index = torch.arange(num_pixels - 1, -1, -1, device=scores.device)
    return torch.where(foreground, ordered * num_pixels + reverse_index, -1)


def _fraction_bits(height: int, width: int) -> int:
    """Fraction bits q of the centres: 2 log2(side) + 2 q + 1 <= 24."""
    side = max(height, width)
    return 6 if side <= 32 else 5 if side <= 64 else 4


class _Problem:
    """The maps that have foreground: M maps of L = H * W pixels, k clusters each."""

    def __init__(self, foreground: Tensor, rank: Tensor, height: int, width: int, k: int) -> None:
        self.foreground = foreground
        self.rank = rank
        self.k = k
        self.num_pixels = height * width
        self.scale = 1 << _fraction_bits(height, width)
        index = torch.arange(self.num_pixels, device=foreground.device)
        self.reverse_index = self.num_pixels - 1 - index
        self.pixels = torch.stack([index % width, index // width], dim=1).float()  # (L, 2)

    def solve(self, max_iter: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Labels, centres, counts and points as in :class:`Clusters`."""
        centers, seeded = self._seed()
        for _ in range(max_iter):
            moved = self._update(self._assign(centers, seeded), centers)
            if torch.equal(moved, centers):
                break
            centers = moved
        labels = self._assign(centers, seeded)
        members = self._members(labels)
        counts = members.sum(dim=2)
        best = torch.where(members, self.rank.unsqueeze(1), -1).amax(dim=2)
        points = torch.where(counts > 0, self._index_of(best), -1)
        return labels, centers / self.scale, counts.int(), points.int()

    def _index_of(self, key: Tensor) -> Tensor:
        """Pixel of a key that holds its reverse index, so that the largest key is the lowest."""
        return self.num_pixels - 1 - key % self.num_pixels

    def _seed(self) -> tuple[Tensor, Tensor]:
        """Farthest-first centres (M, k, 2) in fixed point and which of them exist (M, k)."""
        chosen = [self._index_of(self.rank.amax(dim=1))]
        exists = [torch.ones_like(chosen[0], dtype=torch.bool)]
        nearest = torch.full_like(self.rank, 1 << 30)
        for _ in range(1, self.k):
            last = self.pixels[chosen[-1]].unsqueeze(1)  # (M, 1, 2)
            distance = (self.pixels - last).square().sum(dim=2).long()
            nearest = torch.minimum(nearest, distance)
            key = nearest * self.num_pixels + self.reverse_index
            farthest = key.masked_fill(~self.foreground, -1).amax(dim=1)
            chosen.append(self._index_of(farthest))
            exists.append(farthest >= self.num_pixels)
        seeded = torch.stack(exists, dim=1)
        centers = self.pixels[torch.stack(chosen, dim=1)] * self.scale
        return centers * seeded.unsqueeze(2), seeded

    def _assign(self, centers: Tensor, seeded: Tensor) -> Tensor:
        """Nearest seeded centre of each foreground pixel, int8 (M, L); -1 on the background."""
        # |c|^2 - 2 p c orders centres as |p - c|^2 does, and is as exact. No matrix product: TF32
        # would round it.
        x, y = (-2.0 * self.scale * self.pixels).t()
        squared = centers.square().sum(dim=2).masked_fill(~seeded, float("inf"))
        labels = torch.zeros_like(self.foreground, dtype=torch.int8)
        nearest = None
        for cluster in range(self.k):
            center = centers[:, cluster, :, None]
            distance = squared[:, cluster, None] + center[:, 0] * x + center[:, 1] * y
            if nearest is None:
                nearest = distance
                continue
            closer = distance < nearest
            nearest = torch.where(closer, distance, nearest)
            labels.masked_fill_(closer, cluster)
        return labels.masked_fill_(~self.foreground, -1)

    def _members(self, labels: Tensor) -> Tensor:
        """Bool (M, k, L)."""
        clusters = torch.arange(self.k, dtype=torch.int8, device=labels.device)
        return labels.unsqueeze(1) == clusters.view(1, -1, 1)

    def _update(self, labels: Tensor, centers: Tensor) -> Tensor:
        """Means of the clusters, rounded half up in fixed point; empty ones stay."""
        members = self._members(labels).float()
        # Positions up to 127 and their sums are exact here, TF32 included.
        sums = (members @ self.pixels).long()
        counts = members.sum(dim=2, keepdim=True).long()
        doubled = (2 * self.scale * sums + counts) // (2 * counts.clamp(min=1))
        return torch.where(counts > 0, doubled.float(), centers)
