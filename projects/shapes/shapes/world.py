"""The small open-vocabulary world: which classes it has, and which are never seen in a mask.

A thing is a texture, a color and a shape: 3 x 5 x 4 = 60 classes. A quarter of them, chosen so
that every pair of attributes occurs among the others, has no mask in training: a model knows such a
class only from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

STUFF = ("grass", "water", "sand", "brick", "snow", "wood")
SHAPES = ("circle", "bar", "triangle", "cross")
COLORS = ("red", "yellow", "green", "blue", "purple")
TEXTURES = ("plain", "striped", "dotted")


@dataclass(frozen=True)
class Thing:
    """One class of things.

    Attributes:
        texture: one of TEXTURES.
        color: one of COLORS.
        shape: one of SHAPES.
    """

    texture: str
    color: str
    shape: str

    @property
    def name(self) -> str:
        """The class name, such as "striped red circle"."""
        return f"{self.texture} {self.color} {self.shape}"

    @property
    def is_unseen(self) -> bool:
        """True if training has no mask of it: one shape of each pair of color and texture."""
        shape, color, texture = (
            SHAPES.index(self.shape),
            COLORS.index(self.color),
            TEXTURES.index(self.texture),
        )
        return (shape + 2 * color + texture) % len(SHAPES) == 0


THINGS = tuple(Thing(*attributes) for attributes in product(TEXTURES, COLORS, SHAPES))
SEEN_THINGS = tuple(thing for thing in THINGS if not thing.is_unseen)
UNSEEN_THINGS = tuple(thing for thing in THINGS if thing.is_unseen)

# Label values: stuff, then seen things, then unseen ones, so that training's classes come first.
TRAIN_CLASSES = (*STUFF, *(thing.name for thing in SEEN_THINGS))
CLASSES = (*TRAIN_CLASSES, *(thing.name for thing in UNSEEN_THINGS))
