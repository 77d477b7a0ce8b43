"""CAT-Seg's windows against torch's own unfold and fold."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from escnet_d2.modeling.squashed_window import squashed_window_scores


def predict(views):
    """Logits of three classes at half the resolution, different at every place of a view."""
    logits = F.avg_pool2d(views, 2)
    ramp = torch.linspace(-1, 1, logits.shape[-1])
    return torch.stack(
        [logits.sum(dim=1), logits[:, 0] * ramp, logits[:, 2] - ramp[:, None]], dim=1
    )


def by_unfold(image, size, window, overlap, resolution):
    stride = int(window * (1 - overlap))
    unfold = nn.Unfold(kernel_size=window, stride=stride)
    fold = nn.Fold(size, kernel_size=window, stride=stride)
    squashed = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)
    crops = unfold(squashed)[0].t().reshape(-1, 3, window, window)
    crops = F.interpolate(crops, size=resolution, mode="bilinear", align_corners=False)
    scores = F.interpolate(predict(crops), size=(window, window), mode="bilinear").sigmoid()
    summed = fold(scores.flatten(1).t()[None])
    return summed / fold(unfold(torch.ones(1, 1, *size)))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("resolution", [(12, 12), (8, 8)])
def test_windows_equal_unfold_and_fold(batch_size, resolution):
    image = torch.randn(3, 17, 25)
    options = {
        "image_size": (20, 20),
        "window": 12,
        "overlap": 0.333,
        "resolution": resolution,
        "batch_size": batch_size,
    }
    windows = by_unfold(image, (20, 20), 12, 0.333, resolution)[0]
    got = squashed_window_scores(image, predict, global_view=False, **options)
    torch.testing.assert_close(got, windows, rtol=1e-4, atol=1e-5)

    whole = F.interpolate(image[None], size=(12, 12), mode="bilinear", align_corners=False)
    whole = F.interpolate(whole, size=resolution, mode="bilinear", align_corners=False)
    whole = F.interpolate(predict(whole), size=(12, 12), mode="bilinear").sigmoid()
    whole = F.interpolate(whole, size=(20, 20), mode="bilinear")[0]
    got = squashed_window_scores(image, predict, global_view=True, **options)
    torch.testing.assert_close(got, (windows + whole) / 2, rtol=1e-4, atol=1e-5)


def test_windows_cover_the_border_where_they_do_not_fit():
    scores = squashed_window_scores(
        torch.randn(3, 10, 10),
        predict,
        image_size=(19, 22),
        window=8,
        overlap=0.25,
        resolution=(8, 8),
        global_view=False,
        batch_size=4,
    )
    assert scores.shape == (3, 19, 22)
    assert torch.isfinite(scores).all()


def test_the_releases_sizes_make_five_views():
    sizes = []

    def counting(views):
        sizes.append(tuple(views.shape))
        return predict(views)

    for overlap in (0.333, 1 / 3):
        squashed_window_scores(
            torch.zeros(3, 5, 5),
            counting,
            image_size=(640, 640),
            window=384,
            overlap=overlap,
            resolution=(24, 24),
            global_view=True,
            batch_size=8,
        )
    assert sizes == [(5, 3, 24, 24)] * 2
