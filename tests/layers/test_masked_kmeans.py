import math
import sys

import pytest
import torch

from escnet_d2.layers import masked_kmeans
from escnet_d2.layers.kmeans_reference import kmeans_reference
from escnet_d2.layers.masked_kmeans import Clusters

# The package has a function of the module's name.
masked_kmeans_module = sys.modules[Clusters.__module__]


def _fraction_bits(side):
    return 6 if side <= 32 else 5 if side <= 64 else 4


def reference(scores, mask, k, max_iter):
    """The semantics, one map, in plain Python integers."""
    height, width = len(scores), len(scores[0])
    scale = 1 << _fraction_bits(max(height, width))
    pixels = [(y * width + x, x, y) for y in range(height) for x in range(width) if mask[y][x]]
    labels = [-1] * (height * width)
    centers, counts, points = [(0, 0)] * k, [0] * k, [-1] * k
    if not pixels:
        return labels, centers, counts, points

    def score(pixel):
        value = scores[pixel[2]][pixel[1]]
        return (0, 0.0) if math.isnan(value) else (1, value)

    seeds = [max(pixels, key=lambda p: (score(p), -p[0]))]
    while len(seeds) < min(k, len(pixels)):
        seeds.append(
            max(
                pixels,
                key=lambda p: (min((p[1] - s[1]) ** 2 + (p[2] - s[2]) ** 2 for s in seeds), -p[0]),
            )
        )
    fixed = [(s[1] * scale, s[2] * scale) for s in seeds]

    def assign():
        return {
            i: min(
                range(len(fixed)),
                key=lambda c: ((x * scale - fixed[c][0]) ** 2 + (y * scale - fixed[c][1]) ** 2, c),
            )
            for i, x, y in pixels
        }

    for _ in range(max_iter):
        owner = assign()
        moved = []
        for c, center in enumerate(fixed):
            members = [p for p in pixels if owner[p[0]] == c]
            n = len(members)
            moved.append(
                tuple((2 * scale * sum(p[a] for p in members) + n) // (2 * n) for a in (1, 2))
                if n
                else center
            )
        if moved == fixed:
            break
        fixed = moved
    owner = assign()
    for c in range(len(fixed)):
        members = [p for p in pixels if owner[p[0]] == c]
        counts[c] = len(members)
        centers[c] = (fixed[c][0] / scale, fixed[c][1] / scale)
        for p in members:
            labels[p[0]] = c
        if members:
            points[c] = max(members, key=lambda p: (score(p), -p[0]))[0]
    return labels, centers, counts, points


@pytest.mark.parametrize(
    ("height", "width", "share", "k", "max_iter"),
    [(6, 7, 0.4, 5, 10), (24, 24, 0.13, 5, 10), (1, 9, 0.9, 3, 10), (40, 33, 0.05, 8, 3),
     (70, 5, 0.5, 2, 0), (5, 5, 1.0, 1, 10), (32, 3, 0.6, 2, 10), (3, 64, 0.6, 2, 10),
     (4, 4, 0.15, 5, 10)],
)  # fmt: skip
@pytest.mark.parametrize("implementation", [masked_kmeans, kmeans_reference])
def test_equals_plain_python(implementation, height, width, share, k, max_iter):
    scores = torch.randint(0, 5, (6, height, width)).float() / 4  # many ties
    scores[1, 0, 0] = float("nan")
    scores[2].fill_(float("nan"))
    mask = torch.rand(6, height, width) < share
    mask[3] = False
    result = Clusters(*implementation(scores, mask, k, max_iter))
    for m in range(6):
        labels, centers, counts, points = reference(
            scores[m].tolist(), mask[m].tolist(), k, max_iter
        )
        assert result.labels[m].flatten().tolist() == labels
        assert result.counts[m].tolist() == counts
        assert result.points[m].tolist() == points
        assert [tuple(c) for c in result.centers[m].tolist()] == centers


def test_hand_worked_two_blobs():
    # Left column (x = 0, y = 0..2) and pixel (5, 1); best score at (0, 2).
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[:, 0] = True
    mask[1, 5] = True
    scores = torch.zeros(3, 6)
    scores[2, 0] = 1.0
    result = masked_kmeans(scores, mask, k=2)
    # First center (0, 2); farthest from it is (5, 1); means: (0, 1) and (5, 1).
    assert result.centers.tolist() == [[0.0, 1.0], [5.0, 1.0]]
    assert result.counts.tolist() == [3, 1]
    assert result.points.tolist() == [12, 11]
    assert result.labels.tolist() == [
        [0, -1, -1, -1, -1, -1],
        [0, -1, -1, -1, -1, 1],
        [0, -1, -1, -1, -1, -1],
    ]


@pytest.mark.parametrize("implementation", [masked_kmeans, kmeans_reference])
def test_a_mean_whose_quotient_of_floats_is_too_high(implementation):
    mask = torch.zeros(128, 128, dtype=torch.bool)
    mask[:, 91:] = True
    mask[:91, 90] = True
    mask[:2, 127], mask[:2, 11] = False, True
    y, x = mask.nonzero().unbind(1)
    numerators = [2 * 16 * int(values.sum()) + len(x) for values in (x, y)]
    # x: 1737.9999, which a division of float32 numbers rounds up to 1738.
    centers = implementation(torch.zeros(128, 128), mask, 1)[1]
    assert centers.tolist() == [[value // (2 * len(x)) / 16 for value in numerators]]


def test_a_gpu_without_the_kernel_is_told_of(recwarn):
    class OnGpu(torch.Tensor):
        is_cuda = True

    scores, mask = torch.rand(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)
    plain = masked_kmeans_module._in_torch(scores, mask, 2)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="as torch code on the GPU"):
        warned = masked_kmeans_module._in_torch(scores.as_subclass(OnGpu), mask, 2)
    assert all(torch.equal(a, b) for a, b in zip(plain, warned))
