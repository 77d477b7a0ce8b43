"""The small open-vocabulary world: which classes it has, and which are never seen in a mask.

A thing is a texture, a colour and a shape: 3 x 5 x 4 = 60 classes. A quarter of them, chosen so
that every pair of attributes occurs among the others, has no mask in training: a model knows such a
class only from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

STUFF = ("grass", "water", "sand", "brick", "snow", "wood")
SHAPES = ("circle", "bar", "triangle", "cross")
COLOURS = ("red", "yellow", "green", "blue", "purple")
TEXTURES = ("plain", "striped", "dotted")


@dataclass(frozen=True)
class Thing:
    """One class of things.

    Attributes:
        texture: one of TEXTURES.
        colour: one of COLOURS.
        shape: one of SHAPES.
    """

    texture: str
    colour: str
    shape: str

    @property
    def name(self) -> str:
        """The class name, such as "striped red circle"."""
        return f"{self.texture} {self.colour} {self.shape}"

    @property
    def is_unseen(self) -> bool:
        """Whether training has no mask of it: one shape of each pair of colour and texture."""
        shape, colour, texture = (
            SHAPES.index(self.shape),
            COLOURS.index(self.colour),
            TEXTURES.index(self.texture),
        )
        return (shape + 2 * colour + texture) % len(SHAPES) == 0


THINGS = tuple(Thing(*attributes) for attributes in product(TEXTURES, COLOURS, SHAPES))
SEEN_THINGS = tuple(thing for thing in THINGS if not thing.is_unseen)
UNSEEN_THINGS = tuple(thing for thing in THINGS if thing.is_unseen)

# Label values: stuff, then seen things, then unseen ones, so that training's classes come first.
TRAIN_CLASSES = (*STUFF, *(thing.name for thing in SEEN_THINGS))
CLASSES = (*TRAIN_CLASSES, *(thing.name for thing in UNSEEN_THINGS))
