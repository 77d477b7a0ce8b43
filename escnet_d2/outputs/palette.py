"""One color per class name: sky is blue, grass is green, and all stay apart."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from escnet_d2.structures.vocabulary import BACKGROUND_NAME

MAX_CLASSES = 65535
BACKGROUND_COLOR = (128, 128, 128)

# RGB in six digits. Of a name in several words the last counts, and words of colors anywhere.
# fmt: off
_THINGS = {
    "sky": "78beff", "cloud": "c8dcf0", "water": "1e78c8", "sea": "004b96", "ocean": "004b96",
    "river": "3c96be", "lake": "3c96be", "snow": "f0f8ff", "ice": "b4f0fa", "grass": "78cd3c",
    "lawn": "78cd3c", "field": "bec850", "tree": "146e28", "forest": "146e28", "bush": "50913c",
    "plant": "3cbe5a", "vegetation": "3cbe5a", "leaf": "96dc78", "mountain": "826e96",
    "hill": "8c965a", "sand": "ebd28c", "beach": "ebd28c", "earth": "966432", "ground": "966432",
    "dirt": "966432", "mud": "785028", "rock": "7d6e5f", "stone": "7d6e5f", "gravel": "a08c78",
    "road": "4b4b5f", "street": "4b4b5f", "sidewalk": "aa96b9", "pavement": "aa96b9",
    "wall": "e1c3aa", "floor": "be8c64", "ceiling": "d7d7be", "building": "b45a46",
    "house": "cd6e50", "brick": "b44632", "wood": "78461e", "wooden": "78461e", "person": "e6194b",
    "fire": "ff6400", "sun": "ffeb3c", "banana": "fadc28", "carrot": "ff7d28", "tomato": "e62d1e",
    "elephant": "8c8296", "strawberry": "dc1e46", "lemon": "fff050",
}
_COLORS = {
    "red": "eb1e28", "orange": "ff8c00", "yellow": "ffd700", "green": "00a03c", "blue": "1e46e6",
    "purple": "8c28b4", "violet": "8c28b4", "pink": "ff82be", "brown": "824b28", "black": "28282d",
    "white": "fafaf5", "cyan": "00cdd7", "turquoise": "00cdd7", "magenta": "e600c8",
}
# fmt: on

# As far apart as possible in CAM02-UCS, the distance as the red-green blind see it counting twice,
# from gray, from the colors above and from each other; in this order, pale ones last.
_TABLE = bytes.fromhex(
    "d8ff56ff15f2b1082249e5ffff8c00004b96f2a4be7dbe70086356158ab1977d2fa4f2cb3c561597b1e5e52f70"
    "7d3c70cb7d567056a4ff2f2f15a497977dffd8cb22ff70978a3c3ca449cb56f263492fd8ffa48ab18acb087d56"
    "cba4563ce5cbb1e597b44632cb56a4085663a4630808562f8a088a8acbe58c28b4632f70ffcb5608a456ff6400"
    "d8e57d707dd8b16370cb8affcbbe63e5b12f228a8acb56d822d8a4a4ff978a223c7d2f0897498aa4497056b197"
    "78beffa44908a4157dcb7d8affd700ff497d78461ed86370be08ff15a47d22707063a4d897085650913c70498a"
    "a43c49e570a43cbe5a63e5e5e5563c00cdd7e57d2f2f8a703c7d2ff2a4d8972f08be22a4568acb56cbb18a2f63"
    "ff97ff78cd3c8a5697ff15a4f270f297b13ccb497da45656be227dffb14956cbf296dc78d87dd822b1becb63be"
    "cb49635649cb5670b1cb4908e5e549227097bec850702fa4563c8a2fa4f2495697d86308e53ccbe52f49d81556"
    "158ae59715158af2d870cb971e78c8f28aa4ff7d2897082f49d87d97ff63a463ff2f70561e46e67d2297089708"
    "a41549e5b1e5b170b149497d15637dbe0856b19749be49b115ffa449b17db1e5b1d897634963d8b149beeb1e28"
    "f29770cbff7d3c96be3c49be497022ff7dcb562fffbe63e522b13c707d3cff637dcd6e50a4cb70ff5697be2f22"
    "0863637d2f2f8aa4e5b1e5ff2f97a4978ae5146e28f2a4083c7d6363ffd8ffeb3ce5a463cbd849498a637d49b1"
    "63b122b17d3cc8dcf0f0f8ffb4f0fa826e968c965aebd28c7d6e5fa08c784b4b5faa96b9e1c3aabe8c64d7d7be"
    "8c829628282dfafaf57d08497d4956cbffcb7d15083c563c97bebed8cbffa4be8a56638a9763493c08d870978a"
    "2f5670e5b1b1a4d8cbcb97b15615b17db18a7d97a470b1b1a4a4cb7d082256707d7d7da4a4708affe5b170087d"
    "cbcb97633c56ffbecbbeffe570223c701563d8b1cb1515f2d8978a8ab1a4e5b19763567de5ff088a638af2cbe5"
    "978ab1497063a4bed863703ccbf2f28acbbe7d563c97d8d8703c49b1f2e5632f49e5f2bebeb17da4d8b1cbe5be"
    "705622"
)
# Ranks of names: the better known they are the earlier they choose.
_KNOWN, _PARTLY_KNOWN, _UNKNOWN = range(3)
# Names without a color of their own wish for one of the first.
_NUM_WISHES = 64
# Of colors in CIELAB from those taken, as long as there are such; then less.
_DISTANCE, _SHRINK = 16.0, 0.9
# Distances that people who take red for green see count twice, being smaller.
_WEIGHTS = np.array([1.0, 2.0, 2.0])

_GAMMA = 2.2
# Of linear RGB: how most people see it, and how without green or red cones (Machado et al. 2009).
_EYES = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
    ]
)


def class_colors(names: Sequence[str]) -> np.ndarray:
    """Chooses the color of each class by its name.

    Common names wish for the color of what they name, others for one that depends on their spelling
    only, so that a class mostly looks the same in every run and vocabulary. Where wishes are too
    close to be told apart, also by people who take red for green, the later name gets the nearest
    color that is not. ``background`` is gray (128, 128, 128). The order of names changes nothing.

    Args:
        names: of the K classes, 1 to 65535; case does not matter.

    Returns:
        (K, 3) uint8, RGB; up to 256 are distinct.

    Raises:
        ValueError: K out of range.
    """
    if not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"A palette is for 1 to {MAX_CLASSES} classes, got {len(names)}.")
    return np.array(_choose(tuple(" ".join(name.lower().split()) for name in names)), np.uint8)


def is_background(name: str) -> bool:
    """Tells whether a class stands for everything else, which pictures show in gray."""
    return " ".join(name.lower().split()) == BACKGROUND_NAME


@functools.lru_cache(maxsize=8)
def _choose(names: tuple[str, ...]) -> list[tuple[int, int, int]]:
    candidates, seen = _candidates()
    wishes = {name: _wish(name) for name in names}
    # Those with colors of their own come first.
    order = sorted(wishes, key=lambda name: (wishes[name][0], name))
    chosen = {BACKGROUND_NAME: BACKGROUND_COLOR}
    room = _distances(seen, _seen(BACKGROUND_COLOR))
    distance = _DISTANCE
    for number, name in enumerate(order):
        if name == BACKGROUND_NAME:
            continue
        rank, color = wishes[name]
        if number < len(candidates):
            while not (room >= distance).any():
                distance *= _SHRINK
            # A common name gets the nearest color that is free: sky stays blue beside water.
            fits = room >= distance if rank == _UNKNOWN else room > 0
            away = np.linalg.norm(seen[:, 0] - _seen(color)[:, 0], axis=1)
            color = candidates[np.where(fits, away, np.inf).argmin()]
            room = np.minimum(room, _distances(seen, _seen(color)))
        chosen[name] = tuple(color.tolist())
    return [chosen[name] for name in names]


def _wish(name: str) -> tuple[int, np.ndarray]:
    """Returns how early a name chooses, and the RGB color that it wishes for."""
    words = [word for word in re.split(r"[^a-z]+", name) if word]
    if name in _THINGS or name in _COLORS:
        return _KNOWN, _rgb({**_THINGS, **_COLORS}[name])
    # COCO-Stuff's "sky-other" begins with what it is.
    nouns = [words[-1], *(words[:1] if "-" in name else [])] if words else []
    for known, parts in ((_COLORS, words), (_THINGS, nouns)):
        for word in parts:
            for form in (word, word.removesuffix("s")):
                if form in known:
                    return _PARTLY_KNOWN, _rgb(known[form])
    candidates, _ = _candidates()
    return _UNKNOWN, candidates[zlib.crc32(name.encode("utf-8", "replace")) % _NUM_WISHES]


def _rgb(digits: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(digits), np.uint8)


@functools.lru_cache(maxsize=1)
def _candidates() -> tuple[np.ndarray, np.ndarray]:
    """Returns the colors to choose from, (n, 3) uint8 RGB, and how they are seen."""
    candidates = np.frombuffer(_TABLE, np.uint8).reshape(-1, 3)
    return candidates, _seen(candidates)


def _seen(colors: np.ndarray | tuple[int, ...]) -> np.ndarray:
    """Returns how n RGB colors are seen, CIELAB for each of three kinds of eyes: (n, 3, 3)."""
    linear = (np.asarray(colors, np.float64).reshape(-1, 1, 3) / 255) ** _GAMMA
    seen = np.einsum("nkc,edc->ned", linear, _EYES).clip(0, 1) ** (1 / _GAMMA)
    return cv2.cvtColor(seen.astype(np.float32), cv2.COLOR_RGB2LAB)


def _distances(seen: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns how well n colors, as they are seen, can be told from another: (n,)."""
    return (np.linalg.norm(seen - other, axis=2) * _WEIGHTS).min(axis=1)
