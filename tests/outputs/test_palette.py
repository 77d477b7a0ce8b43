from __future__ import annotations

import hashlib

import numpy as np
import pytest

from escnet_d2.outputs.palette import BACKGROUND_COLOR, class_colors


def test_the_first_256_colors_are_distinct_and_then_repeat():
    colors = class_colors(65535)
    assert colors.shape == (65535, 3)
    assert colors.dtype == np.uint8
    assert len(np.unique(colors[:256], axis=0)) == 256
    np.testing.assert_array_equal(colors[256:512], colors[:256])


@pytest.mark.parametrize("num_classes", [1, 2, 171, 847])
def test_a_color_depends_on_the_index_only(num_classes):
    np.testing.assert_array_equal(class_colors(num_classes), class_colors(1000)[:num_classes])


def test_the_first_colors_are_known():
    # Written down once: pictures of different releases must stay comparable.
    assert class_colors(4).tolist() == [[195, 240, 0], [240, 90, 255], [255, 15, 45], [0, 255, 195]]
    assert hashlib.sha256(class_colors(256)).hexdigest().startswith("b0efb013819e814b")


def test_background_is_gray_and_changes_no_other_class():
    colors = class_colors(5, background=3)
    assert tuple(colors[3]) == BACKGROUND_COLOR
    np.testing.assert_array_equal(np.delete(colors, 3, 0), np.delete(class_colors(5), 3, 0))
    # The cached table must not have been written to.
    assert tuple(class_colors(5)[3]) != BACKGROUND_COLOR


@pytest.mark.parametrize("num_classes", [0, 65536])
def test_number_of_classes_out_of_range(num_classes):
    with pytest.raises(ValueError, match="1 to 65535"):
        class_colors(num_classes)
