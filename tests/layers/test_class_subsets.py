"""Computing a part of the classes: in chunks, and those that the votes of windows keep."""

from __future__ import annotations

import pytest
import torch

from escnet_d2.layers.class_subsets import map_chunks, map_rows, voted_classes


def window_means(maps):
    """Means of the 5 x 5 patches around each that are inside the map, (K, H, W)."""
    height, width = maps.shape[1:]
    means = torch.empty_like(maps)
    for y in range(height):
        for x in range(width):
            window = maps[:, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            means[:, y, x] = window.mean(dim=(1, 2))
    return means


def kept_by_hand(maps, share):
    """Gives each window three votes, and takes classes until they have the share of them."""
    means = window_means(maps)
    votes = [0] * len(maps)
    for place in means.flatten(1).T.tolist():
        for index in sorted(range(len(maps)), key=lambda k: -place[k])[:3]:
            votes[index] += 1
    order = sorted(range(len(maps)), key=lambda k: (-votes[k], -means[k].max()))
    kept, total = [], 0
    while total < share * sum(votes):
        kept.append(order[len(kept)])
        total += votes[kept[-1]]
    return sorted(kept)


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95, 1.0])
def test_classes_are_kept_by_the_votes_of_windows(share):
    maps = torch.rand(3, 20, 6, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    maps[0, :5] += 0.5  # Of this image few classes are needed.
    expected = [kept_by_hand(one, share) for one in maps]
    for one, indices in zip(maps, expected):
        assert voted_classes(one[None], share, 20)[0].tolist() == indices
    together = voted_classes(maps, share, 20)
    assert together.shape[1] == max(map(len, expected))
    assert all(set(kept) <= set(row.tolist()) for kept, row in zip(expected, together))
    assert len({len(kept) for kept in expected}) > 1, "nothing adapts"


def test_the_order_of_classes_decides_nothing():
    # Constant maps: three classes, or four where the third place is shared, get all votes.
    values = torch.tensor([0.1, 0.7, 0.5, 0.6, 0.2, 0.5])
    maps = values.view(1, -1, 1, 1).expand(1, 6, 4, 4)
    for order in (torch.arange(6), torch.arange(6).flip(0), torch.tensor([2, 4, 0, 5, 3, 1])):
        kept = [order[voted_classes(maps[:, order], 1.0, limit)[0]].tolist() for limit in (6, 2)]
        assert [set(classes) for classes in kept] == [{1, 2, 3, 5}, {1, 3}]


def test_few_classes_and_small_maps():
    for classes, side in ((1, 1), (2, 3), (3, 1)):
        maps = torch.rand(1, classes, side, side)
        assert voted_classes(maps, 1.0, classes)[0].tolist() == list(range(classes))
    assert voted_classes(torch.rand(1, 9, 4, 4), 1.0, 2).shape == (1, 2)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 50])
@pytest.mark.parametrize("dim", [0, 1])
def test_chunks_give_what_the_whole_gives(size, dim):
    x = torch.randn(3, 7, 2, dtype=torch.float64, requires_grad=True)
    seen = []

    def function(part):
        seen.append(part.shape[dim])
        # Another size elsewhere, another type, and not in order in memory.
        out = torch.cat([part, part.exp()], dim=2).float()
        return out.transpose(0, 2).contiguous().transpose(0, 2)

    out = map_chunks(function, x, size, dim)
    assert sum(seen) == x.shape[dim] and max(seen) <= (size or 7)
    expected = torch.cat([x, x.exp()], dim=2).float()
    assert torch.equal(out, expected) and out.is_contiguous()
    (own,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(own, 1 + x.detach().exp())
    with torch.no_grad():
        again = map_chunks(function, x, size, dim)
    assert torch.equal(again, expected) and again.is_contiguous()


def test_rows_take_the_memory_of_some_classes():
    x = torch.randn(2, 6, 12, 2, 3)
    sizes = []
    out = map_rows(lambda part: (sizes.append(part.shape[2]), 2 * part)[1], x, 2)
    assert torch.equal(out, 2 * x)
    assert sizes == [4, 4, 4], "a third of the classes, a third of the rows"
