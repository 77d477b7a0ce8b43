"""Indexed PNGs, 8-bit with a palette or 16-bit, and the map from values to names and colors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from escnet_d2.io import write_json

from ..label_png import save_label_png, unlabeled_value
from .labeled_image import ExportOptions, LabeledImage


def write(folder: Path, images: Iterable[LabeledImage], options: ExportOptions) -> None:
    """Writes ``masks/<name>.png``, whose values are class indices, and ``label_map.json``."""
    colors = options.colors
    for image in images:
        save_label_png(folder / "masks" / f"{image.name}.png", image.labels, colors)
    classes = [
        {"value": index, "name": name, "color": colors[index].tolist()}
        for index, name in enumerate(options.class_names)
    ]
    content = {"unlabeled": unlabeled_value(len(classes)), "classes": classes}
    write_json(folder / "label_map.json", content)
