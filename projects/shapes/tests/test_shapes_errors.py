"""Sources of the errors on things, on scenes of a few pixels."""

from __future__ import annotations

import numpy as np
import pytest

from escnet_d2.projects.shapes import CLASSES, SEEN_THINGS, UNSEEN_THINGS, ErrorSources

GRASS, WATER = 0, 1
# Two seen things, and an unseen one.
A, B = CLASSES.index(SEEN_THINGS[0].name), CLASSES.index(SEEN_THINGS[1].name)
U = CLASSES.index(UNSEEN_THINGS[0].name)


def scene(*pixels: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, labels and instances of one row of (prediction, label, instance)."""
    return tuple(np.array([column]) for column in zip(*pixels))


def test_each_wrong_pixel_of_a_thing_has_one_cause():
    sources = ErrorSources()
    sources.add(
        *scene((A, A, 1), (A, A, 1), (U, A, 1), (B, A, 1), (GRASS, A, 1)),
    )
    sources.add(*scene((B, B, 1), (A, A, 2), (B, A, 2), (A, GRASS, 0), (WATER, GRASS, 0)))
    assert sources.shares() == {
        "right": pytest.approx(50.0),
        "called ground": pytest.approx(12.5),
        "another thing of the scene": pytest.approx(12.5),
        # B is not in the first scene, though it is in the second.
        "a thing not in the scene": pytest.approx(25.0),
        # U and B in the first scene; in the second, B has as many pixels of object 2 as A, and A
        # comes first.
        "outvoted in its object": pytest.approx(37.5),
    }


def test_the_vote_fixes_names_and_leaves_ground():
    sources = ErrorSources()
    sources.add(*scene((A, A, 1), (A, A, 1), (U, A, 1), (GRASS, A, 1), (GRASS, GRASS, 0)))
    voted = sources.voted_miou()
    # Three of four pixels of A, none of them called U any more.
    assert voted["seen things"] == pytest.approx(75.0)
    assert voted["unseen things"] == 0.0
    # Half of what is called grass is grass.
    assert voted["stuff"] == pytest.approx(50.0)


def test_objects_of_one_class_vote_apart():
    sources = ErrorSources()
    sources.add(*scene((A, A, 1), (A, A, 1), (U, A, 1), (U, A, 2), (U, A, 2), (A, A, 2)))
    # Object 1 becomes A, object 2 becomes U.
    assert sources.voted_miou()["seen things"] == pytest.approx(50.0)
    assert sources.shares()["outvoted in its object"] == pytest.approx(100 / 3)


def test_ground_called_a_thing_has_no_part_in_an_object():
    sources = ErrorSources()
    sources.add(*scene((U, GRASS, 0), (U, GRASS, 0), (A, A, 1)))
    assert sources.shares()["right"] == pytest.approx(100.0)
    assert sources.shares()["outvoted in its object"] == 0.0


def test_nothing_counted_is_an_error():
    sources = ErrorSources()
    with pytest.raises(ValueError, match="No scene with things"):
        sources.shares()
    sources.add(*scene((GRASS, GRASS, 0), (WATER, GRASS, 0)))
    with pytest.raises(ValueError, match="No scene with things"):
        sources.shares()
