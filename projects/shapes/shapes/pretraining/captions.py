"""Phrases that captions use of a thing or a ground, and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from ..world import COLORS, SHAPES, STUFF, TEXTURES, THINGS

_ATTRIBUTES = ("texture", "color", "shape")
# What a phrase may keep, and how often: with the shape 2/9 each, without it 1/9 each.
_SUBSETS = tuple(kept for number in (1, 2) for kept in combinations(_ATTRIBUTES, number))
_SUBSET_PROBABILITIES = tuple((2 if "shape" in kept else 1) / 9 for kept in _SUBSETS)
# What a phrase stands in.
SENTENCES = ("A photo of a {} in the scene", "a photo of a {}.", "a {}", "{}")
# A shape that is not named.
_ANY_SHAPE = "thing"


@dataclass(frozen=True)
class Phrase:
    """Some attributes of a thing, or a kind of ground.

    Attributes:
        texture: "" where it is left out, as with the others.
        color: likewise.
        shape: likewise.
        ground: a kind of stuff, and then no attribute is given.
    """

    texture: str = ""
    color: str = ""
    shape: str = ""
    ground: str = ""

    @property
    def text(self) -> str:
        """The words, such as "red circle", "striped thing" or "grass"."""
        if self.ground:
            return self.ground
        return " ".join(filter(None, (self.texture, self.color, self.shape or _ANY_SHAPE)))

    def is_true_of(self, item: Phrase) -> bool:
        """Returns True if all that this phrase says holds for ``item``, a complete phrase."""
        if self.ground or item.ground:
            return self.ground == item.ground
        return all(getattr(self, name) in ("", getattr(item, name)) for name in _ATTRIBUTES)


FULL_PHRASES = (
    *(Phrase(ground=kind) for kind in STUFF),
    *(Phrase(thing.texture, thing.color, thing.shape) for thing in THINGS),
)


def all_phrases() -> list[Phrase]:
    """Every phrase that :func:`drop_attributes` can give."""
    things = (
        Phrase(*attributes) for attributes in product(("", *TEXTURES), ("", *COLORS), ("", *SHAPES))
    )
    return [*(Phrase(ground=kind) for kind in STUFF), *(t for t in things if t != Phrase())]


def drop_attributes(rng: np.random.RandomState, item: Phrase, probability: float) -> Phrase:
    """Leaves out some attributes of a complete phrase, but never all of them.

    Shape, the hardest to learn, stays twice as often as it goes.

    Args:
        rng: source of randomness.
        item: the complete phrase; a ground is returned as it is.
        probability: that anything is left out.
    """
    if item.ground or rng.uniform() >= probability:
        return item
    kept = _SUBSETS[rng.choice(len(_SUBSETS), p=_SUBSET_PROBABILITIES)]
    return Phrase(**{name: getattr(item, name) for name in kept})


def truth_table(phrases: Sequence[Phrase], items: Sequence[Phrase]) -> np.ndarray:
    """Tells which phrases are true of which items, bool (items, phrases)."""
    return np.array([[phrase.is_true_of(item) for phrase in phrases] for item in items])
