from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from escnet_d2.io import read_label_map
from escnet_d2.outputs import class_colors, ignore_label, save_label_png


@pytest.mark.parametrize(
    ("num_classes", "mode"),
    [(1, "P"), (3, "P"), (255, "P"), (256, "I;16"), (847, "I;16"), (65535, "I;16")],
)
def test_round_trip(tmp_path, num_classes, mode):
    labels = np.random.default_rng(0).integers(0, num_classes, (13, 17)).astype(np.int32)
    labels[0, 0], labels[0, 1] = num_classes - 1, ignore_label(num_classes)
    save_label_png(tmp_path / "a.png", labels, class_colors(num_classes))
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.mode == mode


def test_8_bit_files_open_in_the_class_colours(tmp_path):
    colors = class_colors(3)
    save_label_png(tmp_path / "a.png", np.array([[0, 1], [2, 255]]), colors)
    with Image.open(tmp_path / "a.png") as image:
        shown = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(shown, [[colors[0], colors[1]], [colors[2], (0, 0, 0)]])


def test_small_palettes_are_stored_with_8_bits(tmp_path):
    save_label_png(tmp_path / "a.png", np.zeros((2, 2), np.int32), class_colors(2))
    # Byte 24 of a PNG: bits per sample, in the header chunk.
    assert (tmp_path / "a.png").read_bytes()[24] == 8


@pytest.mark.parametrize("value", [-1, 3, 254, 65535])
def test_values_that_are_no_class_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=rf"0 to 2 or 255, got \[{value}\]"):
        save_label_png(tmp_path / "a.png", np.array([[0, value]]), class_colors(3))
    assert list(tmp_path.iterdir()) == []


def test_ignore_label():
    assert [ignore_label(k) for k in (1, 255, 256, 65535)] == [255, 255, 65535, 65535]


def test_a_note_is_a_comment_in_the_file(tmp_path):
    for note in ("", "UNTRAINED"):
        save_label_png(tmp_path / "a.png", np.zeros((2, 2), int), class_colors(3), note=note)
        with Image.open(tmp_path / "a.png") as image:
            assert image.info.get("Comment", "") == note
