"""Properties of the k-means operator that hold for every input."""

from __future__ import annotations

import pytest
import torch

from escnet_d2.layers.kmeans_reference import kmeans_reference

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

OP = torch.ops.escnet_d2.masked_kmeans.default
SPECIAL = [float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-45, 65504.0]


@st.composite
def problems(draw):
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    scores = torch.randn(height, width, generator=generator)
    if draw(st.booleans()):
        scores = scores.round()
    for value in draw(st.lists(st.sampled_from(SPECIAL), max_size=3)):
        scores[torch.rand(height, width, generator=generator) < 0.3] = value
    share = draw(st.sampled_from([0.0, 0.02, 0.2, 0.6, 1.0]))
    mask = torch.rand(height, width, generator=generator) < share
    return scores, mask, draw(st.integers(1, 8)), draw(st.integers(0, 12))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(problems())
def test_clusters_partition_the_mask(problem):
    scores, mask, k, max_iter = problem
    labels, centers, counts, points = OP(scores, mask, k, max_iter)
    for got, want in zip((labels, centers, counts, points), kmeans_reference(*problem)):
        assert torch.equal(got, want)

    # Labels partition the mask, and counts count them.
    assert torch.equal(labels >= 0, mask)
    assert labels.max() < k
    assert counts.tolist() == [(labels == c).sum().item() for c in range(k)]
    assert counts.sum() == mask.sum()
    if mask.sum() <= k:
        assert counts.max() <= 1

    width = mask.shape[1]
    y, x = mask.nonzero().unbind(1)
    exists = torch.arange(k) < mask.sum()
    for c in range(k):
        if counts[c] == 0:
            assert points[c] == -1
            assert exists[c] or centers[c].tolist() == [0.0, 0.0]
            continue
        # A point lies in its cluster and carries its maximum, the first of several.
        members = (labels == c).flatten()
        assert members[points[c]]
        values = scores.flatten().masked_fill(scores.flatten().isnan(), -float("inf"))
        inside = values[members]
        assert values[points[c]] == inside.max()
        is_number = ~scores.flatten().isnan()
        if (members & is_number).any():
            first = (members & is_number & (values == inside.max())).nonzero()[0, 0]
            assert points[c] == first
    # Every pixel has the label of the nearest center; centers are exact in float32.
    if len(x):
        pixels = torch.stack([x, y], dim=1).double()
        distance = (pixels[:, None] - centers[exists].double()).square().sum(dim=2)
        label_of = labels[y, x].long()
        assert torch.equal(distance.gather(1, label_of[:, None])[:, 0], distance.amin(dim=1))
        assert int(points.max()) < mask.shape[0] * width
