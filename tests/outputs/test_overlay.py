from __future__ import annotations

import time

import numpy as np
import pytest

from escnet_d2.outputs.overlay import draw_overlay
from escnet_d2.outputs.palette import class_colors
from escnet_d2.outputs.region_names import drawable_name, load_font, name_positions
from escnet_d2.structures import Segmentation


def segmentation(labels, names=None):
    labels = np.asarray(labels, np.int32)
    names = names or tuple(f"name {index}" for index in range(int(labels.max()) + 1))
    return Segmentation(labels, np.ones(labels.shape, np.float32), tuple(names))


def overlay(image, labels, names=None, **options):
    result = segmentation(labels, names)
    colors = class_colors(result.class_names)
    return draw_overlay(image, result, colors=colors, **options), colors


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        (1, 1, (512, 512)),
        (50, 40, (550, 440)),
        (300, 600, (300, 600)),
        (2, 3000, (2, 3000)),
        (40000, 2, (8000, 1)),
    ],
)
def test_the_picture_keeps_or_gets_a_size_to_look_at(height, width, shown):
    image = np.full((height, width, 3), 200, np.uint8)
    # Nothing is written on such a name's region.
    picture, colors = overlay(image, np.zeros((height, width)), ["x" * 99])
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


def halves(size=600):
    labels = np.zeros((size, size), int)
    labels[:, size // 2 :] = 1
    return labels


LONG = ("a" * 99, "b" * 99)


def test_opacity_and_borders():
    image = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    clear, colors = overlay(image, halves(), LONG, opacity=0.0)
    clear = np.asarray(clear)
    np.testing.assert_array_equal(clear[:, :298], image[:, :298])
    np.testing.assert_array_equal(clear[:, 302:600], image[:, 302:])
    # Lines of each class's own color along the border.
    assert (clear[:, 298:300] == colors[0]).all()
    assert (clear[:, 300:302] == colors[1]).all()
    full = np.asarray(overlay(image, halves(), LONG, opacity=1.0)[0])[:, :600]
    np.testing.assert_array_equal(full, colors[halves()])
    tinted = np.asarray(overlay(image, halves(), LONG)[0])[:, :600]
    assert (tinted[:, 299:301] == colors[[0, 1]]).all()
    assert not (tinted[:, 298] == colors[0]).all(axis=1).all()


def test_side_by_side_shows_the_image_itself_to_the_left():
    image = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    alone = np.asarray(overlay(image, halves())[0])
    both = np.asarray(overlay(image, halves(), side_by_side=True)[0])
    np.testing.assert_array_equal(both[:, :600], image)
    np.testing.assert_array_equal(both[:, -alone.shape[1] :], alone)
    bare = np.asarray(overlay(image, halves(), with_legend=False)[0])
    np.testing.assert_array_equal(bare, alone[:, :600])


@pytest.mark.parametrize(("label", "names"), [(-1, ("sky",)), (1, ("sky", " Background"))])
def test_background_and_unlabeled_pixels_are_gray_and_unnamed(label, names):
    image = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    labels = halves()
    labels[labels == 1] = label
    pixels = np.asarray(overlay(image, labels, names)[0])[:, :600].astype(int)
    assert (pixels[:, 302:].max(axis=2) - pixels[:, 302:].min(axis=2)).max() <= 1
    # The photo can be made out: its brightness, half of it.
    brightness = image[:, 302:] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(pixels[:, 302:, 0], (brightness + 128) / 2, atol=2)
    assert (pixels[:, :298].max(axis=2) - pixels[:, :298].min(axis=2)).max() > 50


def test_the_legend_shows_exactly_the_classes_present_in_the_colors_seen():
    labels = np.zeros((600, 600), int)
    labels[:200] = 3
    picture, colors = overlay(np.full((600, 600, 3), 60, np.uint8), labels)
    legend = np.asarray(picture)[:, 600:]

    def rows_with(color):
        return np.flatnonzero((abs(legend.astype(int) - color) <= 1).all(axis=2).any(axis=1))

    seen = [(60 + color.astype(int)) // 2 for color in colors]
    for swatches in (colors, seen):
        assert [len(rows_with(color)) > 0 for color in swatches] == [True, False, False, True]
        # Class 0 has the larger area, so its swatch is higher up.
        assert rows_with(swatches[0]).min() < rows_with(swatches[3]).min()


def test_names_stand_inside_their_regions_at_the_widest_place():
    labels = np.zeros((400, 600), int)
    # A disk with an arm, a second disk, and a region that is too small.
    rows, columns = np.mgrid[:400, :600]
    labels[(rows - 120) ** 2 + (columns - 150) ** 2 < 80**2] = 1
    labels[110:130, 150:400] = 1
    labels[(rows - 280) ** 2 + (columns - 450) ** 2 < 60**2] = 1
    labels[350:360, 20:60] = 1
    font = load_font(16)
    found = list(name_positions(labels, {1: "dog", 2: "absent"}, font))
    assert [text for text, _ in found] == ["dog", "dog"]
    np.testing.assert_allclose([place for _, place in found], [(150, 120), (450, 280)], atol=3)
    # Too wide for one line, but not for a line per word; else none at all.
    words = "longish words here"
    assert font.getlength(words) > 120
    places = dict(name_positions(np.where(labels == 1, 1, -1), {1: words}, font))
    assert list(places) == [words.replace(" ", "\n")]
    assert not list(name_positions(labels, {1: "w" * 40}, font))


def test_names_are_drawn_on_the_picture():
    image, labels = np.zeros((400, 600, 3), np.uint8), np.zeros((400, 600), int)
    named, bare = (
        np.asarray(overlay(image, labels, names)[0])[:, :600] for names in (["dog"], ["x" * 99])
    )
    changed = np.argwhere((named != bare).any(axis=2))
    np.testing.assert_allclose(changed.mean(axis=0), [200, 300], atol=6)
    # White letters with a dark halo.
    assert (named[tuple(changed.T)] == 255).all(axis=1).sum() > 50
    assert (named[tuple(changed.T)] == 25).all(axis=1).sum() > 50


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("dog", "dog"),
        ("  hot\tdog\n", "hot dog"),
        ("cafe\u0301", "café"),
        ("машина", "машина"),
        ("猫", "class 7"),
        ("כלב", "class 7"),
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
    image, labels = np.zeros((600, 600, 3), np.uint8), np.zeros((600, 600), int)
    plain, noted = (np.asarray(overlay(image, labels, note=note)[0]) for note in ("", "UNTRAINED"))
    np.testing.assert_array_equal(noted[:, :600], plain[:, :600])
    assert (noted[:30, 600:] < 100).any(axis=2).sum() > 50
    # The class is a line below it.
    assert not (noted[:30, 600:] == class_colors(["name 0"])[0]).all(axis=2).any()


def test_a_very_long_name_is_cut_to_what_fits():
    image, labels = np.zeros((600, 600, 3), np.uint8), np.zeros((600, 600), int)
    colors = np.array([[200, 30, 60]], np.uint8)
    start = time.perf_counter()
    long, short = (
        draw_overlay(image, segmentation(labels, ["wide name " * times]), colors=colors)
        for times in (1000, 10)
    )
    assert time.perf_counter() - start < 5
    np.testing.assert_array_equal(np.asarray(long), np.asarray(short))
    # It must not blow up the canvas.
    assert long.width < 1200


def test_many_classes_are_summed_up_in_the_last_line():
    labels = np.arange(600 * 600).reshape(600, 600) % 500
    picture, _ = overlay(np.zeros((600, 600, 3), np.uint8), labels)
    assert picture.height == 600
    assert picture.width < 1300


def test_images_and_labels_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 3\).*\(3, 2, 3\)"):
        overlay(np.zeros((3, 2, 3), np.uint8), np.zeros((2, 3)))
