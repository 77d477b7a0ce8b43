"""Other ways to run k-means on the positions of many masks, for tools/benchmark_kmeans.py.

Each takes scores and masks (M, H, W) and gives the centres of each map as a list of arrays (n, 2).
All cluster alike: k clusters or fewer, at most ten Lloyd iterations, one start; only scikit-learn
as a measure of quality has ten starts. Libraries seed by their own default method.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

MAX_ITERATIONS = 10
Rival = Callable[[Tensor, Tensor, int], list]


def positions(mask: Tensor) -> list[np.ndarray]:
    """Foreground of each map as float32 (n, 2), x before y."""
    return [m.nonzero().flip(1).float().numpy() for m in mask]


def dense_torch(scores: Tensor, mask: Tensor, k: int) -> Tensor:
    """Batched Lloyd over all pixels of all maps, as one writes it in torch; fit for torch.compile.

    Seeds as the operator does; results differ from it where rounding decides.

    Returns:
        Centres (M, k, 2).
    """
    maps, height, width = mask.shape
    index = torch.arange(height * width)
    pixels = torch.stack([index % width, index // width], dim=1).float()
    foreground = mask.reshape(maps, -1)
    best = scores.reshape(maps, -1).masked_fill(~foreground, -torch.inf).argmax(dim=1)
    centers = pixels[best].unsqueeze(1)
    nearest = torch.full(foreground.shape, torch.inf)
    for _ in range(1, k):
        distance = (pixels - centers[:, -1:]).square().sum(dim=2)
        nearest = torch.minimum(nearest, distance)
        farthest = nearest.masked_fill(~foreground, -1.0).argmax(dim=1)
        centers = torch.cat([centers, pixels[farthest].unsqueeze(1)], dim=1)
    squared = pixels.square().sum(dim=1)
    ones = torch.cat([pixels, torch.ones(len(pixels), 1)], dim=1)
    for _ in range(MAX_ITERATIONS):
        distance = squared - 2 * centers @ pixels.T + centers.square().sum(dim=2, keepdim=True)
        label = distance.argmin(dim=1).masked_fill(~foreground, k)
        members = (label.unsqueeze(1) == torch.arange(k).view(1, k, 1)).float()
        sums = members @ ones
        means = sums[..., :2] / sums[..., 2:].clamp(min=1)
        centers = torch.where(sums[..., 2:] > 0, means, centers)
    return centers


def by_sklearn(scores: Tensor, mask: Tensor, k: int, starts: int = 1) -> list:
    """scikit-learn's KMeans, k-means++."""
    from sklearn.cluster import KMeans

    return [
        KMeans(min(k, len(x)), n_init=starts, max_iter=MAX_ITERATIONS, random_state=0)
        .fit(x)
        .cluster_centers_
        for x in positions(mask)
        if len(x)
    ]


def by_scipy(scores: Tensor, mask: Tensor, k: int) -> list:
    """Scipy's kmeans2, k-means++."""
    from scipy.cluster.vq import kmeans2

    return [
        kmeans2(x, min(k, len(x)), iter=MAX_ITERATIONS, minit="++", seed=0, missing="warn")[0]
        for x in positions(mask)
        if len(x)
    ]


def by_faiss(scores: Tensor, mask: Tensor, k: int) -> list:
    """Faiss's Clustering, random seeds, all points used."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    centers = []
    for x in positions(mask):
        if not len(x):
            continue
        clusters = min(k, len(x))
        kmeans = faiss.Kmeans(
            2, clusters, niter=MAX_ITERATIONS, seed=1, min_points_per_centroid=1,
            max_points_per_centroid=10**6,
        )  # fmt: skip
        kmeans.train(x)
        centers.append(kmeans.centroids)
    return centers


def by_fast_pytorch_kmeans(scores: Tensor, mask: Tensor, k: int) -> list:
    """fast-pytorch-kmeans, one map at a time, random seeds."""
    from fast_pytorch_kmeans import KMeans

    centers = []
    for x in positions(mask):
        if not len(x):
            continue
        kmeans = KMeans(n_clusters=min(k, len(x)), max_iter=MAX_ITERATIONS, verbose=0)
        kmeans.fit_predict(torch.from_numpy(x))
        centers.append(kmeans.centroids.numpy())
    return centers


# Name in the table, module that it needs, function.
LIBRARIES: tuple[tuple[str, str, Rival], ...] = (
    ("faiss-cpu", "faiss", by_faiss),
    ("scipy `kmeans2`", "scipy", by_scipy),
    ("fast-pytorch-kmeans", "fast_pytorch_kmeans", by_fast_pytorch_kmeans),
    ("scikit-learn `KMeans`, 1 start", "sklearn", by_sklearn),
)


def mean_square(points: np.ndarray, centers: np.ndarray) -> float:
    """Mean squared distance of points (n, 2) to the nearest centre (c, 2)."""
    return float(((points[:, None] - centers[None]) ** 2).sum(axis=2).min(axis=1).mean())
