from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from escnet_d2.io import read_label_map
from escnet_d2.outputs.label_png import save_label_png
from escnet_d2.outputs.palette import class_colors


@pytest.mark.parametrize(
    ("num_classes", "mode"),
    [(1, "P"), (3, "P"), (255, "P"), (256, "I;16"), (847, "I;16"), (65535, "I;16")],
)
def test_round_trip(tmp_path, num_classes, mode):
    labels = np.random.default_rng(0).integers(0, num_classes, (13, 17)).astype(np.int32)
    labels[0, 0] = num_classes - 1
    save_label_png(
        tmp_path / "a.png", labels, class_colors([f"name {index}" for index in range(num_classes)])
    )
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", mode)
    # Bits per sample, in the header chunk; small palettes too.
    assert (tmp_path / "a.png").read_bytes()[24] == (8 if mode == "P" else 16)


def test_8_bit_files_open_in_the_class_colors(tmp_path):
    colors = class_colors(["sky", "dog", "cat"])
    save_label_png(tmp_path / "a.png", np.array([[0, 1], [2, 2]]), colors)
    with Image.open(tmp_path / "a.png") as image:
        shown = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(shown, [[colors[0], colors[1]], [colors[2], colors[2]]])


def test_a_note_is_a_comment_in_the_file(tmp_path):
    for note in ("", "UNTRAINED"):
        save_label_png(
            tmp_path / "a.png",
            np.zeros((2, 2), int),
            class_colors(["sky", "dog", "cat"]),
            note=note,
        )
        with Image.open(tmp_path / "a.png") as image:
            assert image.info.get("Comment", "") == note
