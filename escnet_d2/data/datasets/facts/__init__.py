"""Lists of the data sets' owners other than class names: object ids and splits."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def ade847_object_ids() -> tuple[int, ...]:
    """Lists the object ids of ADE20K_2021_17_01 that are the classes of A-847, in class order."""
    return tuple(map(int, _lines("ade847_object_ids.txt")))


def pascal_context_val_ids() -> tuple[str, ...]:
    """Lists the 5104 images that PASCAL-Context is evaluated on, as the CAT-Seg release does."""
    return tuple(_lines("pascal_context_val.txt"))


def _lines(name: str) -> list[str]:
    return (_FOLDER / name).read_text(encoding="utf-8").split()
