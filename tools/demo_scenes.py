"""Little scenes for the demo: shapes over textured ground, with their label maps.

Made from a seed, so that the demo needs no photo and no data set.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

GROUNDS = ("grass", "water", "sand", "brick")
# Colours as a few minutes of training can tell colours apart, but hardly outlines.
COLOURS = {
    "red circle": (215, 45, 45),
    "purple square": (140, 60, 190),
    "yellow triangle": (245, 215, 40),
    "white cross": (235, 235, 240),
}
CLASSES = (*GROUNDS, *COLOURS)

# Drawn larger and shrunk, so that borders are smooth.
_SCALE = 2


def write_scenes(folder: Path, *, num_scenes: int, size: tuple[int, int], seed: int) -> None:
    """Writes ``images/NNN.png`` and ``labels/NNN.png`` (class index of each pixel).

    Args:
        folder: where to; made if needed.
        num_scenes: how many.
        size: (height, width) in pixels.
        seed: of all randomness.
    """
    rng = np.random.default_rng(seed)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(num_scenes):
        image, labels = draw_scene(rng, size)
        Image.fromarray(image).save(folder / "images" / f"{index:03}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{index:03}.png")


def draw_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws one scene: two grounds, two to four shapes, light and noise.

    Args:
        rng: source of randomness.
        size: (height, width) in pixels.

    Returns:
        Image, uint8 (height, width, 3), RGB; labels, uint8 (height, width), index into CLASSES.
    """
    height, width = (_SCALE * extent for extent in size)
    far, near = rng.choice(len(GROUNDS), 2, replace=False)
    image = _ground(rng, GROUNDS[far], height, width)
    labels = np.full((height, width), far, np.uint8)
    rows, columns = np.mgrid[:height, :width]
    horizon = height * rng.uniform(0.3, 0.6) + (columns - width / 2) * rng.uniform(-0.2, 0.2)
    below = rows > horizon
    image[below] = _ground(rng, GROUNDS[near], height, width)[below]
    labels[below] = near
    for _ in range(rng.integers(2, 5)):
        kind = int(rng.integers(len(COLOURS)))
        name = list(COLOURS)[kind]
        mask = _shape(rng, name.split()[1], height, width)
        colour = np.asarray(COLOURS[name]) * rng.uniform(0.85, 1.1, 3)
        image[mask] = colour * (1 - 0.3 * (rows[mask] / height))[:, None]
        labels[mask] = len(GROUNDS) + kind
    light = rng.uniform(0.7, 1.1) + rng.uniform(-0.2, 0.2) * columns / width
    image = cv2.resize(image * light[..., None], size[::-1], interpolation=cv2.INTER_AREA)
    image += rng.normal(0, 5, image.shape)
    return image.clip(0, 255).astype(np.uint8), np.ascontiguousarray(labels[::_SCALE, ::_SCALE])


def _ground(rng: np.random.Generator, kind: str, height: int, width: int) -> np.ndarray:
    """Texture of one ground, float (height, width, 3)."""
    rows, columns = np.mgrid[:height, :width].astype(float)
    grain = rng.normal(0, 1, (height, width))
    if kind == "grass":
        blades = cv2.GaussianBlur(grain, (1, 9), 2)
        colour, value = (60, 140, 50), 1 + 0.9 * blades
    elif kind == "water":
        waves = np.sin(rows / rng.uniform(4, 7) + 2 * np.sin(columns / 25))
        colour, value = (50, 110, 180), 1 + 0.2 * waves
    elif kind == "sand":
        colour, value = (215, 190, 130), 1 + 0.08 * grain
    else:
        course = rows // 12
        joint = (rows % 12 < 2) | ((columns + 14 * (course % 2)) % 28 < 2)
        colour, value = (165, 75, 60), np.where(joint, 1.5, 1 + 0.05 * grain)
    return np.asarray(colour) * rng.uniform(0.85, 1.15, 3) * value[..., None]


def _shape(rng: np.random.Generator, kind: str, height: int, width: int) -> np.ndarray:
    """A shape somewhere in the scene, bool (height, width)."""
    radius = rng.uniform(0.12, 0.22) * height
    centre = np.array([rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)])
    mask = np.zeros((height, width), np.uint8)
    if kind == "circle":
        cv2.circle(mask, centre.astype(int).tolist(), int(radius), 1, -1)
        return mask.astype(bool)
    if kind == "cross":
        arm = 0.3
        outline = [(arm, 1), (arm, arm), (1, arm), (1, -arm), (arm, -arm), (arm, -1)]
        corners = np.array([*outline, *[(-x, -y) for x, y in outline]])
    else:
        number = {"square": 4, "triangle": 3}[kind]
        angles = 2 * np.pi * np.arange(number) / number
        corners = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    polygon = corners @ rotation * radius + centre
    cv2.fillPoly(mask, [polygon.round().astype(np.int32)], 1)
    return mask.astype(bool)
