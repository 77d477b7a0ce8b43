"""The splits of the data set, and how they lie on disk.

``shapes/<split>/images/00000.png`` and, but for ``pretrain``, ``labels/`` and ``instances/`` of the
same names; ``shapes/<split>/captions.json`` says what is in each scene.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from escnet_d2.io import read_image, read_label_map

from .scenes import Scene, draw_scene
from .world import SEEN_THINGS, STUFF, THINGS, Thing

logger = logging.getLogger(__name__)

# Part of every scene's seed: another number is another world.
WORLD_VERSION = 2
# Boxes of plain ground that captions.json describes: tries per scene, side in pixels.
_STUFF_TRIES = 8
_STUFF_SIDE = 18


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        name: of the folder.
        number: part of every scene's seed.
        num_scenes: how many.
        things: what may occur.
        num_things: least and greatest number of things in a scene.
        with_masks: whether label maps and instance masks are written.
        any_colors: whether colors are drawn, so that labels do not fit their names.
    """

    name: str
    number: int
    num_scenes: int
    things: tuple[Thing, ...]
    num_things: tuple[int, int] = (2, 4)
    with_masks: bool = True
    any_colors: bool = False

    def draw(self, index: int) -> Scene:
        """Draws scene ``index``, 0 or more; the same on every machine."""
        return draw_scene(
            (WORLD_VERSION, self.number, index),
            things=self.things,
            num_things=self.num_things,
            any_colors=self.any_colors,
        )


SPLITS = {
    split.name: split
    for split in (
        # Masks of seen classes only, and no picture of the others; the small ones begin alike.
        Split("train", 0, 1000, SEEN_THINGS),
        Split("train_200", 0, 200, SEEN_THINGS),
        Split("train_50", 0, 50, SEEN_THINGS),
        Split("val", 1, 300, THINGS),
        # What CLIP reads: every class, as web text has it, with captions and boxes but no masks.
        Split("pretrain", 2, 2500, THINGS, num_things=(3, 5), with_masks=False),
        # What CLIP is judged by.
        Split("pretrain_val", 3, 200, THINGS, with_masks=False),
        # Pictures for the demo.
        Split("demo", 4, 12, THINGS, num_things=(3, 4)),
        # What SAM sees: masks without names, of things in colors that no class has.
        Split("sam", 5, 2500, THINGS, num_things=(2, 5), any_colors=True),
        # What SAM is judged by.
        Split("sam_val", 6, 100, THINGS, any_colors=True),
    )
}


def prepare_split(
    root: Path, name: str, *, num_scenes: int | None = None, num_workers: int = 1
) -> Path:
    """Writes a split unless it is there.

    The folder appears whole or not at all, so several processes may ask for it at once.

    Args:
        root: the folder ``shapes``; made if needed.
        name: one of ``SPLITS``.
        num_scenes: fewer or more scenes than usual; the first ones are the same.
        num_workers: processes that draw.

    Returns:
        The folder of the split.

    Raises:
        ValueError: no such split, or the folder is of another world or has another number of
            scenes.
    """
    if name not in SPLITS:
        raise ValueError(f"The data set shapes has no split {name!r}: {', '.join(SPLITS)}.")
    split = SPLITS[name]
    count = split.num_scenes if num_scenes is None else num_scenes
    folder = root / name
    if not folder.is_dir():
        logger.info("Drawing %d scenes into %s", count, folder)
        root.mkdir(parents=True, exist_ok=True)
        temporary = root / f".{name}-{uuid.uuid4().hex}"
        try:
            _write(temporary, split, count, num_workers)
            _move(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    _check(folder, count)
    return folder


def read_captions(folder: Path) -> list[dict[str, Any]]:
    """Reads what is in each scene of a split.

    Args:
        folder: what :func:`prepare_split` returned.

    Returns:
        One dict per scene: ``file_name``, ``caption``, ``grounds`` and ``things``, a list of dicts
        with ``texture``, ``color``, ``shape``, ``visible``, the share that nothing covers, and
        ``box``, (left, top, right, bottom) in pixels of that share, right and bottom exclusive;
        and ``stuff``, a list of dicts with ``kind`` and ``box`` of some plain ground.

    Raises:
        ValueError: an older release, which named the keys otherwise, drew the split.
    """
    scenes = json.loads((folder / "captions.json").read_text(encoding="utf-8"))["scenes"]
    if any("color" not in thing for scene in scenes for thing in scene["things"]):
        raise ValueError(
            f"{folder} was drawn by an older release: delete the folder, and it is drawn again."
        )
    return scenes


def read_images(folder: Path) -> np.ndarray:
    """Reads all pictures of a split, uint8 (N, H, W, 3), RGB, in the order of their names."""
    return np.stack([read_image(path) for path in sorted((folder / "images").glob("*.png"))])


def read_maps(folder: Path) -> np.ndarray:
    """Reads the label or instance maps of a folder, uint8 (N, H, W), in order of their names."""
    maps = [read_label_map(path) for path in sorted(folder.glob("*.png"))]
    return np.stack(maps).astype(np.uint8)


def scenes_sha256(scenes: Iterable[Scene]) -> str:
    """SHA-256 of pictures, label maps and instance masks in order, hexadecimal."""
    digest = hashlib.sha256()
    for scene in scenes:
        for array in (scene.image, scene.labels, scene.instances):
            digest.update(array.tobytes())
    return digest.hexdigest()


def _write(folder: Path, split: Split, count: int, num_workers: int) -> None:
    for name in ("images", "labels", "instances") if split.with_masks else ("images",):
        (folder / name).mkdir(parents=True)
    write_scene = partial(_write_scene, folder, split)
    if num_workers > 1:
        with multiprocessing.get_context("spawn").Pool(num_workers) as pool:
            scenes = pool.map(write_scene, range(count), chunksize=16)
    else:
        scenes = [write_scene(index) for index in range(count)]
    content = {"world_version": WORLD_VERSION, "scenes": scenes}
    (folder / "captions.json").write_text(json.dumps(content), encoding="utf-8")


def _write_scene(folder: Path, split: Split, index: int) -> dict[str, Any]:
    scene = split.draw(index)
    file_name = f"{index:05}.png"
    Image.fromarray(scene.image).save(folder / "images" / file_name)
    if split.with_masks:
        Image.fromarray(scene.labels).save(folder / "labels" / file_name)
        Image.fromarray(scene.instances).save(folder / "instances" / file_name)
    things = [
        {**vars(thing), "visible": round(share, 3), "box": _box(scene.instances == number)}
        for number, (thing, share) in enumerate(zip(scene.things, scene.visible), start=1)
        if (scene.instances == number).any()
    ]
    return {
        "file_name": file_name,
        "caption": scene.caption,
        "grounds": list(scene.grounds),
        "things": things,
        "stuff": _stuff_boxes(np.random.RandomState([WORLD_VERSION, split.number, index]), scene),
    }


def _stuff_boxes(rng: np.random.RandomState, scene: Scene) -> list[dict[str, Any]]:
    """Boxes that lie on one kind of ground, as many as a few tries find."""
    found = []
    for _ in range(_STUFF_TRIES):
        top, left = rng.randint(0, len(scene.labels) - _STUFF_SIDE + 1, 2)
        box = [int(left), int(top), int(left) + _STUFF_SIDE, int(top) + _STUFF_SIDE]
        kinds = np.unique(scene.labels[box[1] : box[3], box[0] : box[2]])
        if len(kinds) == 1 and kinds[0] < len(STUFF):
            found.append({"kind": STUFF[kinds[0]], "box": box})
    return found


def _box(mask: np.ndarray) -> list[int]:
    """Bounds of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(bound) for bound in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


def _move(temporary: Path, folder: Path) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:
        # Another process was faster; what it wrote is checked like any other.
        if not folder.is_dir():
            raise


def _check(folder: Path, count: int) -> None:
    content = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    found = (content.get("world_version"), len(content["scenes"]))
    if found != (WORLD_VERSION, count):
        raise ValueError(
            f"{folder} has {found[1]} scenes of world {found[0]}, expected {count} of world "
            f"{WORLD_VERSION}: delete the folder, and it is drawn again."
        )
