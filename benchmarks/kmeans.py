#!/usr/bin/env python
"""Times torch.ops.escnet_d2.masked_kmeans against other k-means, and measures its clusters.

    python benchmarks/kmeans.py                         # the shipped model's maps, no download
    python benchmarks/kmeans.py --weights FILE --config-file NAME --vocabulary NAME --images FOLDER

The maps are those that the pseudo prompt generators of a trained model get. Every k-means has at
most ten iterations and one start, on one thread. Times are the shortest CPU time of the repeats.
Libraries take part if they are installed: pip install 'escnet-d2[bench]'. Prints Markdown.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from escnet_d2 import OpenVocabPredictor
from escnet_d2.layers import masked_kmeans
from escnet_d2.layers.extension import find_extension
from escnet_d2.layers.kmeans_reference import kmeans_reference
from escnet_d2.modeling.escnet.pseudo_prompts import PseudoPromptGenerator
from escnet_d2.outputs import find_images

MAX_ITERATIONS = 10


def main() -> int:
    """Runs the command line; returns the exit code."""
    args = _parse()
    torch.set_num_threads(1)
    if find_extension() is None:
        print("The extension is not built: the operator is the torch code here.", file=sys.stderr)
    try:
        scores, mask = maps_of_model(args)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"kmeans.py: error: {error}", file=sys.stderr)
        return 2
    turns = torch.arange(args.maps) % len(mask)
    scores, mask = scores[turns], mask[turns]
    share = f"{100 * mask.float().mean():.0f} %"
    print(
        f"{args.maps} maps of {mask.shape[1]} x {mask.shape[2]}, {share} foreground, k = {args.k}: "
        f"those of {Path(args.weights).name} at {args.resolution} pixels on {args.images}. "
        f"One thread of {torch.backends.cpu.get_cpu_capability()}, shortest CPU time, "
        f"torch {torch.__version__}, {datetime.date.today()}.\n"
    )
    print(f"| | {share}, ms | full masks, ms |\n|---|---:|---:|", flush=True)
    for name, run, repeats in _competitors(scores, args.k, args.repeats):
        some, full = (_cpu_ms(run, m, repeats) for m in (mask, torch.ones_like(mask)))
        print(f"| {name} | {some:.2f} | {full:.1f} |", flush=True)
    if importlib.util.find_spec("sklearn"):
        print(f"\n{_inertia(scores, mask, args.k)}")
    return 0


def maps_of_model(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Collects scores and masks (M, H, W), not empty, that a model's generators cluster."""
    predictor = OpenVocabPredictor(
        args.config_file or args.weights,
        weights=args.weights,
        vocabulary=args.vocabulary,
        device="cpu",
        opts=("MODEL.CLIP.RESOLUTION", args.resolution),
    )
    scores, masks = [], []

    def keep(module: PseudoPromptGenerator, inputs: tuple[Tensor]) -> None:
        probability = module.probability(inputs[0]).flatten(0, 1)
        foreground = probability >= module.alpha
        busy = foreground.flatten(1).any(dim=1)
        scores.append(probability[busy])
        masks.append(foreground[busy])

    for module in predictor.model.modules():
        if isinstance(module, PseudoPromptGenerator):
            module.register_forward_pre_hook(keep)
    for image in find_images([args.images])[0]:
        predictor(image.path)
    if not any(map(len, masks)):
        raise ValueError(f"No class of {args.vocabulary!r} has foreground in {args.images}.")
    return torch.cat(scores), torch.cat(masks)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--maps", type=int, default=847, help="problems (default %(default)s)")
    add("--k", type=int, default=5, help="clusters (default %(default)s)")
    add("--repeats", type=int, default=50, help="of the operator; others: a tenth, libraries: 2")
    add("--config-file", metavar="NAME_OR_FILE", help="of the model; by default named like it")
    add("--weights", default="escnet_tiny_shapes", help="of the model (default %(default)s)")
    add("--resolution", type=int, default=192, help="pixels that its CLIP sees (%(default)s)")
    add("--images", default="demo/images", help="image, folder or glob (default %(default)s)")
    add("--vocabulary", default="shapes_val_sem_seg", help="its classes (default %(default)s)")
    return parser.parse_args()


def _competitors(
    scores: Tensor, k: int, repeats: int
) -> list[tuple[str, Callable[[Tensor], object], int]]:
    few = max(repeats // 10, 2)
    found = [
        ("**this operator**", lambda mask: masked_kmeans(scores, mask, k), repeats),
        ("its torch code", lambda mask: kmeans_reference(scores, mask, k), few),
    ]
    for name, (module, cluster) in LIBRARIES.items():
        if importlib.util.find_spec(module):
            found.append((name, lambda mask, way=cluster: _by_library(way, mask, k), 2))
    return found


def _by_library(cluster: Callable, mask: Tensor, k: int) -> list[np.ndarray]:
    """Returns the centers (n, 2) of each map with foreground, clustered one at a time."""
    points = [m.nonzero().flip(1).float().numpy() for m in mask]
    return [cluster(x, min(k, len(x))) for x in points if len(x)]


def _sklearn(points: np.ndarray, k: int, starts: int = 1) -> np.ndarray:
    from sklearn.cluster import KMeans

    kmeans = KMeans(k, n_init=starts, max_iter=MAX_ITERATIONS, random_state=0).fit(points)
    return kmeans.cluster_centers_


def _scipy(points: np.ndarray, k: int) -> np.ndarray:
    from scipy.cluster.vq import kmeans2

    return kmeans2(points, k, iter=MAX_ITERATIONS, minit="++", seed=0, missing="warn")[0]


def _faiss(points: np.ndarray, k: int) -> np.ndarray:
    import faiss

    faiss.omp_set_num_threads(1)
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": 10**6}
    kmeans = faiss.Kmeans(2, k, niter=MAX_ITERATIONS, seed=1, **limits)
    kmeans.train(points)
    return kmeans.centroids


def _fast_pytorch_kmeans(points: np.ndarray, k: int) -> np.ndarray:
    from fast_pytorch_kmeans import KMeans

    kmeans = KMeans(n_clusters=k, max_iter=MAX_ITERATIONS, verbose=0)
    kmeans.fit_predict(torch.from_numpy(points))
    return kmeans.centroids.numpy()


# By name in the table: module and function.
LIBRARIES = {
    "faiss-cpu": ("faiss", _faiss),
    "scipy `kmeans2`": ("scipy", _scipy),
    "fast-pytorch-kmeans": ("fast_pytorch_kmeans", _fast_pytorch_kmeans),
    "scikit-learn `KMeans`": ("sklearn", _sklearn),
}


def _cpu_ms(run: Callable[[Tensor], object], mask: Tensor, repeats: int) -> float:
    run(mask)
    shortest = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        run(mask)
        shortest = min(shortest, time.process_time() - start)
    return 1e3 * shortest


def _inertia(scores: Tensor, mask: Tensor, k: int) -> str:
    """Compares mean squared distances to the centers with scikit-learn's best of ten starts."""
    clusters = masked_kmeans(scores, mask, k)
    own, single = [], []
    for m, centers, counts in zip(mask, clusters.centers, clusters.counts):
        points = m.nonzero().flip(1).float().numpy()
        number = min(k, len(points))
        lowest = _mean_square(points, _sklearn(points, number, starts=10))
        if lowest > 0:  # else there are at most k pixels
            own.append(_mean_square(points, centers[counts > 0].numpy()) / lowest)
            single.append(_mean_square(points, _sklearn(points, number)) / lowest)
    return (
        f"Inertia relative to scikit-learn's best of 10 starts: mean {statistics.mean(own):.3f}, "
        f"median {statistics.median(own):.3f} over {len(own)} maps; scikit-learn with one start: "
        f"mean {statistics.mean(single):.3f}."
    )


def _mean_square(points: np.ndarray, centers: np.ndarray) -> float:
    return float(((points[:, None] - centers[None]) ** 2).sum(axis=2).min(axis=1).mean())


if __name__ == "__main__":
    sys.exit(main())
