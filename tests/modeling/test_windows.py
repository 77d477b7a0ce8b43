"""Both placements of windows: on CLIP's patches, and CAT-Seg's against torch's unfold and fold."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from escnet_d2 import get_cfg
from escnet_d2.modeling.class_scores import resize_scores
from escnet_d2.modeling.windows import PatchViews, SquashedViews, ViewOptions, window_starts


@pytest.mark.parametrize(
    ("extent", "window", "stride", "starts"),
    [
        (24, 24, 17, [0]),
        (30, 24, 16, [0, 6]),
        (40, 24, 16, [0, 16]),
        (41, 24, 16, [0, 16, 17]),
        (10, 4, 4, [0, 4, 6]),
        (8, 4, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_starts(extent, window, stride, starts):
    assert window_starts(extent, window, stride) == starts


def patch_views(**options):
    options = ViewOptions(sliding_window=True, global_view=False, **options)
    return PatchViews(options, resolution=32, patch=8)


def mean_color(windows):
    """A model whose 'class scores' are the colors of the cells: patch 8, cells of 2 pixels."""
    return F.avg_pool2d(windows, 2)


@pytest.mark.parametrize("size", [(32, 32), (40, 72), (33, 47), (10, 90), (1, 1)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_fit_together(size, batch_size):
    image = torch.rand(3, *size)
    got = patch_views(overlap=0.4, batch_size=batch_size).slide(image, mean_color)
    rows, columns = (-(-extent // 2) for extent in size)
    assert got.shape[1:] == (rows, columns)
    # Overlapping windows agree, so the mosaic is the pooled image itself.
    padded = F.pad(image, (0, 2 * columns - size[1], 0, 2 * rows - size[0]))
    pooled = mean_color(padded.unsqueeze(0))
    # Each cell of the result lies where equal cells over the whole image have their centers.
    centers = [(torch.arange(n) + 0.5) * (s / n) / (2 * n) for n, s in zip((rows, columns), size)]
    grid = torch.stack(torch.meshgrid(*centers, indexing="ij")[::-1], dim=-1) * 2 - 1
    expected = F.grid_sample(pooled, grid.unsqueeze(0), padding_mode="border", align_corners=False)[
        0
    ]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("height", [96, 97, 98, 99, 101, 103])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_scores_stay_in_their_place(height, dtype):
    """A map whose scores are the y coordinate still is that at the size of the image."""
    y = (torch.arange(height) + 0.5).view(1, -1, 1).expand(3, height, 32)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        scores = patch_views(overlap=0.4, batch_size=4).slide(y, mean_color)
    got = resize_scores(scores, (height, 32))
    # But for the last cell, which is partly padding, and what is interpolated with it.
    torch.testing.assert_close(got[:, :-6], y[:, :-6].clamp(min=1), rtol=0, atol=0.06)


def test_overlaps_are_averaged():
    calls = iter([1.0, 3.0])

    def constant(windows):
        return torch.full((len(windows), 1, 16, 16), next(calls))

    got = patch_views(overlap=0.5, batch_size=1).slide(torch.zeros(3, 32, 48), constant)
    assert got[0, 0].tolist() == [1.0] * 8 + [2.0] * 8 + [3.0] * 8


def test_windows_move_by_a_patch_at_least():
    numbers = []

    def counting(windows):
        numbers.append(len(windows))
        return mean_color(windows)

    patch_views(overlap=0.99).slide(torch.zeros(3, 32, 64), counting)
    assert sum(numbers) == 5


@pytest.mark.parametrize(
    ("aspect", "size", "expected"),
    [
        ("squash", (100, 900), (128, 128)),
        ("keep", (100, 100), (128, 128)),
        ("keep", (100, 400), (64, 256)),
        ("keep", (1, 10000), (8, 1024)),
        ("keep", (10000, 1), (1024, 8)),
    ],
)
def test_input_sizes(aspect, size, expected):
    assert (
        PatchViews(ViewOptions(aspect=aspect), resolution=128, patch=8).input_size(size) == expected
    )


def predict(views):
    """Logits of three classes at half the resolution, different at every place of a view."""
    logits = F.avg_pool2d(views, 2)
    ramp = torch.linspace(-1, 1, logits.shape[-1])
    return torch.stack(
        [logits.sum(dim=1), logits[:, 0] * ramp, logits[:, 2] - ramp[:, None]], dim=1
    )


def squashed_views(image_size, window, resolution, **options):
    options = ViewOptions(
        sliding_window=True, window_image_size=image_size, window_size=window, **options
    )
    return SquashedViews(options, resolution=resolution)


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

    def scores(global_view):
        views = squashed_views(
            (20, 28), 12, resolution, overlap=0.333, batch_size=batch_size, global_view=global_view
        )
        return views.scores([image], predict)[0]

    windows = by_unfold(image, (20, 28), 12, 0.333, resolution)[0]
    torch.testing.assert_close(scores(False), windows, rtol=1e-4, atol=1e-5)

    whole = F.interpolate(image[None], size=(12, 12), mode="bilinear", align_corners=False)
    whole = F.interpolate(whole, size=resolution, mode="bilinear", align_corners=False)
    whole = F.interpolate(predict(whole), size=(12, 12), mode="bilinear").sigmoid()
    whole = F.interpolate(whole, size=(20, 28), mode="bilinear")[0]
    torch.testing.assert_close(scores(True), (windows + whole) / 2, rtol=1e-4, atol=1e-5)


def test_windows_cover_the_border_where_they_do_not_fit():
    views = squashed_views((19, 22), 8, (8, 8), overlap=0.25, global_view=False)
    scores = views.slide(torch.randn(3, 10, 10), predict)
    assert scores.shape == (3, 19, 22)
    assert torch.isfinite(scores).all()


def test_the_releases_sizes_make_five_views():
    sizes = []

    def counting(views):
        sizes.append(tuple(views.shape))
        return predict(views)

    for overlap in (0.333, 1 / 3):
        views = squashed_views((640, 640), 384, (24, 24), overlap=overlap)
        views.slide(torch.zeros(3, 5, 5), counting)
    assert sizes == [(5, 3, 24, 24)] * 2


def antialiased(image, size):
    return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)


def test_whole_images_of_one_input_size_share_a_batch():
    images = [torch.rand(3, *size) for size in ((40, 72), (32, 32), (80, 144))]
    sizes = [(24, 40), (32, 32), (24, 40)]  # Images of about 16 patches in all.
    batches = []

    def predict(views):
        batches.append(tuple(views.shape))
        return mean_color(views)

    views = PatchViews(ViewOptions(aspect="keep"), resolution=32, patch=8)
    for got, image, size in zip(views.scores(images, predict), images, sizes):
        torch.testing.assert_close(got, mean_color(antialiased(image, size))[0])
    assert batches == [(2, 3, 24, 40), (1, 3, 32, 32)]


def test_global_view_and_windows_of_a_resized_image():
    image, options = torch.rand(3, 50, 60), {"sliding_window": True, "window_image_size": (40, 72)}
    views = PatchViews(ViewOptions(**options), resolution=32, patch=8)
    windows = patch_views().slide(antialiased(image, (40, 72))[0], mean_color)
    whole = F.interpolate(mean_color(antialiased(image, (32, 32))), (20, 36), mode="bilinear")
    got = views.scores([image], mean_color)[0]
    torch.testing.assert_close(got, (windows + whole[0]) / 2)


@pytest.mark.parametrize(
    ("divisor", "pad", "padded"), [(0, True, (5, 7)), (4, True, (8, 8)), (4, False, (5, 7))]
)
def test_padding_before_squashing(divisor, pad, padded):
    image = torch.rand(3, 5, 7)
    views = SquashedViews(ViewOptions(), resolution=(10, 12), size_divisibility=divisor)
    full = F.pad(image, (0, padded[1] - 7, 0, padded[0] - 5))
    expected = F.interpolate(full[None], size=(10, 12), mode="bilinear")
    torch.testing.assert_close(views.squash([image], pad=pad), expected)
    logits = torch.randn(1, 2, 3, 4)
    assert torch.equal(views.scores([image], lambda _: logits)[0], logits[0].sigmoid())


def test_defaults_are_those_of_the_configuration():
    cfg = get_cfg()
    assert ViewOptions() == ViewOptions.from_config(cfg)
    cfg.TEST.WINDOW_SIZE, cfg.TEST.WINDOW_IMAGE_SIZE = 48, (64, 80)
    cfg.MODEL.CLIP.ASPECT = "keep"
    expected = ViewOptions(aspect="keep", window_size=48, window_image_size=(64, 80))
    assert ViewOptions.from_config(cfg) == expected
