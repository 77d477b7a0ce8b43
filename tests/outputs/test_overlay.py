from __future__ import annotations

import time

import numpy as np
import pytest

from escnet_d2.outputs.overlay import draw_overlay, drawable_name
from escnet_d2.outputs.palette import class_colors
from escnet_d2.structures import Segmentation


def segmentation(labels, names=None):
    labels = np.asarray(labels, np.int32)
    names = names or tuple(f"name {index}" for index in range(int(labels.max()) + 1))
    return Segmentation(labels, np.ones(labels.shape, np.float32), tuple(names))


def overlay(image, labels, names=None, **options):
    result = segmentation(labels, names)
    colors = class_colors(len(result.class_names))
    return draw_overlay(image, result, colors=colors, **options), colors


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        (1, 1, (256, 256)),
        (50, 40, (300, 240)),
        (300, 400, (300, 400)),
        (2, 3000, (2, 3000)),
        (40000, 2, (8000, 1)),
    ],
)
def test_the_picture_keeps_or_gets_a_size_to_look_at(height, width, shown):
    image = np.full((height, width, 3), 200, np.uint8)
    picture, colors = overlay(image, np.zeros((height, width)))
    assert picture.mode == "RGB"
    assert picture.height >= shown[0]
    # The legend is to the right, on paper.
    assert picture.width > shown[1] + 50
    pixels = np.asarray(picture)
    tinted = np.rint((200 + colors[0].astype(int)) / 2)
    np.testing.assert_allclose(
        pixels[: shown[0], : shown[1]], np.broadcast_to(tinted, (*shown, 3)), atol=1
    )
    assert (pixels[: shown[0], shown[1]] == 250).all()


def test_opacity_and_borders():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    labels = np.zeros((300, 300), int)
    labels[:, 150:] = 1
    clear, colors = overlay(image, labels, opacity=0.0)
    clear = np.asarray(clear)[:300, :300]
    np.testing.assert_array_equal(clear[:, :149], image[:, :149])
    np.testing.assert_array_equal(clear[:, 151:], image[:, 151:])
    # One line of each class's own color along the border.
    assert (clear[:, 149] == colors[0]).all()
    assert (clear[:, 150] == colors[1]).all()
    full = np.asarray(overlay(image, labels, opacity=1.0)[0])[:300, :300]
    np.testing.assert_array_equal(full, colors[labels])


def test_the_legend_shows_exactly_the_classes_present():
    labels = np.zeros((300, 300), int)
    labels[:100] = 3
    picture, colors = overlay(np.zeros((300, 300, 3), np.uint8), labels)
    legend = np.asarray(picture)[:, 300:].reshape(-1, 3)
    shown = [bool((legend == color).all(axis=1).any()) for color in colors]
    assert shown == [True, False, False, True]
    # Class 0 has the larger area, so its swatch is higher up.
    rows = [np.flatnonzero((legend == colors[index]).all(axis=1)).min() for index in (0, 3)]
    assert rows[0] < rows[1]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("dog", "dog"),
        ("  hot\tdog\n", "hot dog"),
        ("café", "cafe"),
        ("猫", "class 7"),
        ("машина", "class 7"),
        ("🐕", "class 7"),
        ("a\x00b", "class 7"),
        ("\udce9", "class 7"),
        ("", "class 7"),
    ],
)
def test_names_in_the_legend(name, shown):
    assert drawable_name(name, 7) == shown


def test_strips_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (1500, 900, 3), dtype=np.uint8)
    labels = generator.integers(0, 4, (30, 18)).repeat(50, axis=0).repeat(50, axis=1)
    whole = np.asarray(overlay(image, labels)[0])
    monkeypatch.setattr("escnet_d2.outputs.overlay._STRIP", 7 * 900)
    np.testing.assert_array_equal(np.asarray(overlay(image, labels)[0]), whole)


def test_a_note_heads_the_legend():
    image, labels = np.zeros((300, 300, 3), np.uint8), np.zeros((300, 300), int)
    plain, noted = (np.asarray(overlay(image, labels, note=note)[0]) for note in ("", "UNTRAINED"))
    np.testing.assert_array_equal(noted[:, :300], plain[:, :300])
    assert (noted[:30, 300:] < 100).any(axis=2).sum() > 50
    # The class is a line below it.
    assert not (noted[:30, 300:, :3] == class_colors(1)[0]).all(axis=2).any()


def test_a_very_long_name_is_cut_to_what_fits():
    image, labels = np.zeros((300, 300, 3), np.uint8), np.zeros((300, 300), int)
    start = time.perf_counter()
    long, _ = overlay(image, labels, ["wide name " * 1000])
    assert time.perf_counter() - start < 5
    short, _ = overlay(image, labels, ["wide name " * 10])
    np.testing.assert_array_equal(np.asarray(long), np.asarray(short))
    # It must not blow up the canvas.
    assert long.width < 1000


def test_many_classes_are_summed_up_in_the_last_line():
    labels = np.arange(300 * 300).reshape(300, 300) % 500
    picture, _ = overlay(np.zeros((300, 300, 3), np.uint8), labels)
    assert picture.height == 300
    assert picture.width < 1000


def test_images_and_labels_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 3\).*\(3, 2, 3\)"):
        overlay(np.zeros((3, 2, 3), np.uint8), np.zeros((2, 3)))
