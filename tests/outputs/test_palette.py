from __future__ import annotations

import hashlib
import importlib.resources

import numpy as np
import pytest

from escnet_d2.outputs.palette import BACKGROUND_COLOR, class_colors

# Björn Ottosson's OKLab: another perceptual space than those that the colors were chosen in.
TO_LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
# Without green and without red cones, of linear RGB (Viénot, Brettel and Mollon 1999).
RED_GREEN_BLIND = (
    [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
)


def smallest_distance(colors, eyes=None):
    """Between any two colors in OKLab, times 100: black and white are 100 apart."""
    values = colors / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = linear if eyes is None else (linear @ np.transpose(eyes)).clip(0, 1)
    lab = 100 * np.cbrt(linear @ np.transpose(TO_LMS)) @ np.transpose(TO_LAB)
    distances = np.linalg.norm(lab[:, None] - lab, axis=2)
    return distances[np.triu_indices(len(colors), 1)].min()


def bundled(name):
    folder = importlib.resources.files("escnet_d2.data.datasets") / "class_names"
    lines = (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.split(",")[0] for line in lines]


@pytest.mark.parametrize(
    ("names", "apart", "apart_for_red_green_blind"),
    [
        (bundled("voc20"), 5.0, 1.8),
        (bundled("ade150"), 2.9, 1.0),
        ([f"thing {number}" for number in range(150)], 2.9, 1.0),
    ],
    ids=["voc20", "ade150", "unknown names"],
)
def test_colors_stay_apart(names, apart, apart_for_red_green_blind):
    colors = class_colors(names)
    assert smallest_distance(colors) > apart
    for eyes in RED_GREEN_BLIND:
        assert smallest_distance(colors, eyes) > apart_for_red_green_blind


@pytest.mark.parametrize(
    ("name", "strongest", "weakest"),
    [
        ("sky", "b", "r"),
        ("Grass", "g", "b"),
        ("trees", "g", "r"),
        ("water-other", "b", "r"),
        ("sand", "r", "b"),
        ("striped red circle", "r", "g"),
        ("blue car", "b", "r"),
        ("playing field", "g", "b"),
    ],
)
def test_common_names_look_like_what_they_name(name, strongest, weakest):
    for names in ([name], [*bundled("voc20"), name]):
        color = dict(zip("rgb", class_colors(names)[-1].tolist()))
        assert max(color, key=color.get) == strongest
        assert min(color, key=color.get) == weakest


def test_a_class_keeps_its_color():
    names = bundled("voc20")
    colors = class_colors(names)
    # Whatever the order, the case and the spaces.
    np.testing.assert_array_equal(class_colors(names[::-1])[::-1], colors)
    np.testing.assert_array_equal(class_colors([f" {name.upper()}" for name in names]), colors)
    # Written down once: pictures of different releases must stay comparable.
    assert hashlib.sha256(colors).hexdigest().startswith("d3b07601cbba168b")
    # In most other vocabularies too.
    alone = np.stack([class_colors([name])[0] for name in names])
    assert (alone == colors).all(axis=1).mean() > 0.6


def test_256_colors_are_distinct_and_many_more_classes_get_one():
    names = [f"thing {number}" for number in range(65535)]
    assert len(np.unique(class_colors(names[:256]), axis=0)) == 256
    colors = class_colors(names)
    assert colors.shape == (65535, 3)
    assert colors.dtype == np.uint8


def test_background_is_gray_and_changes_no_other_class():
    colors = class_colors(["sky", "Background", "dog"])
    assert tuple(colors[1]) == BACKGROUND_COLOR
    np.testing.assert_array_equal(colors[[0, 2]], class_colors(["sky", "dog"]))
    # The remembered colors must not have been written to.
    colors[:] = 0
    assert class_colors(["sky", "Background", "dog"]).any()


@pytest.mark.parametrize("num_classes", [0, 65536])
def test_number_of_classes_out_of_range(num_classes):
    with pytest.raises(ValueError, match="1 to 65535"):
        class_colors(["x"] * num_classes)
