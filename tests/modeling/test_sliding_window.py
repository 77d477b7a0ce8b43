import pytest
import torch

from escnet_d2.modeling.class_scores import resize_scores
from escnet_d2.modeling.meta_arch.inference_options import InferenceOptions
from escnet_d2.modeling.sliding_window import sliding_window_scores, window_starts


@pytest.mark.parametrize(
    ("extent", "window", "overlap", "starts"),
    [
        (24, 24, 0.3, [0]),
        (30, 24, 1 / 3, [0, 6]),
        (40, 24, 1 / 3, [0, 16]),
        (41, 24, 1 / 3, [0, 16, 17]),
        (10, 4, 0.0, [0, 4, 6]),
        (8, 4, 0.99, [0, 1, 2, 3, 4]),
    ],
)
def test_starts(extent, window, overlap, starts):
    assert window_starts(extent, window, overlap) == starts


def mean_colour(windows):
    """A model whose 'class scores' are the colours of the cells: patch 8, cells of 2 pixels."""
    return torch.nn.functional.avg_pool2d(windows, 2)


@pytest.mark.parametrize("size", [(32, 32), (40, 72), (33, 47), (10, 90), (1, 1)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_fit_together(size, batch_size):
    image = torch.rand(3, *size)
    got = sliding_window_scores(
        image, mean_colour, window=32, patch=8, overlap=0.4, batch_size=batch_size
    )
    rows, columns = (-(-extent // 2) for extent in size)
    assert got.shape[1:] == (rows, columns)
    # Overlapping windows agree, so the mosaic is the pooled image itself.
    padded = torch.nn.functional.pad(image, (0, 2 * columns - size[1], 0, 2 * rows - size[0]))
    pooled = mean_colour(padded.unsqueeze(0))
    # Each cell of the result lies where equal cells over the whole image have their centres.
    centres = [(torch.arange(n) + 0.5) * (s / n) / (2 * n) for n, s in zip((rows, columns), size)]
    grid = torch.stack(torch.meshgrid(*centres, indexing="ij")[::-1], dim=-1) * 2 - 1
    expected = torch.nn.functional.grid_sample(
        pooled, grid.unsqueeze(0), padding_mode="border", align_corners=False
    )[0]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("height", [96, 97, 98, 99, 101, 103])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_scores_stay_in_their_place(height, dtype):
    """A map whose scores are the y coordinate still is that at the size of the image."""
    y = (torch.arange(height) + 0.5).view(1, -1, 1).expand(3, height, 32)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        scores = sliding_window_scores(
            y, mean_colour, window=32, patch=8, overlap=0.4, batch_size=4
        )
    got = resize_scores(scores, (height, 32))
    # But for the last cell, which is partly padding, and what is interpolated with it.
    torch.testing.assert_close(got[:, :-6], y[:, :-6].clamp(min=1), rtol=0, atol=0.06)


def test_overlaps_are_averaged():
    calls = iter([1.0, 3.0])

    def constant(windows):
        return torch.full((len(windows), 1, 16, 16), next(calls))

    got = sliding_window_scores(
        torch.zeros(3, 32, 48), constant, window=32, patch=8, overlap=0.5, batch_size=1
    )
    assert got[0, 0].tolist() == [1.0] * 8 + [2.0] * 8 + [3.0] * 8


@pytest.mark.parametrize(
    ("aspect", "size", "expected"),
    [
        ("squash", (100, 900), (128, 128)),
        ("keep", (100, 100), (128, 128)),
        ("keep", (100, 400), (64, 256)),
        ("keep", (1, 10000), (8, 1024)),
    ],
)
def test_input_sizes(aspect, size, expected):
    assert InferenceOptions(aspect=aspect).input_size(size, resolution=128, patch=8) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aspect": "crop"}, "squash, keep"),
        ({"window_size": 100}, "multiple of the patch size 16"),
        ({"overlap": 1.0}, "WINDOW_OVERLAP"),
        ({"window_batch_size": 0}, "WINDOW_BATCH_SIZE"),
        ({"window_image_size": (640, 0)}, "WINDOW_IMAGE_SIZE"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        InferenceOptions(**options).check(16)
