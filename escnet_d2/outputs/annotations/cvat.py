"""CVAT for images 1.1: XML with masks in CVAT's own run lengths."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import XMLGenerator

import numpy as np

from escnet_d2.io import atomic_text

from .labeled_image import ExportOptions, LabeledImage


def write(folder: Path, images: Iterable[LabeledImage], options: ExportOptions) -> None:
    """Writes ``annotations.xml``; CVAT matches it with the images of a task by their names."""
    with atomic_text(folder / "annotations.xml") as file:
        xml = XMLGenerator(file, "utf-8", short_empty_elements=True)
        xml.startDocument()
        xml.startElement("annotations", {})
        _element(xml, "version", "1.1")
        xml.startElement("meta", {})
        xml.startElement("task", {})
        xml.startElement("labels", {})
        for index in options.things:
            xml.startElement("label", {})
            _element(xml, "name", options.class_names[index])
            _element(xml, "color", f"#{bytes(options.colors[index]).hex()}")
            xml.startElement("attributes", {})
            xml.endElement("attributes")
            xml.endElement("label")
        for name in ("labels", "task", "meta"):
            xml.endElement(name)
        for number, image in enumerate(images):
            height, width = image.labels.shape
            place = {"id": number, "name": image.file, "width": width, "height": height}
            xml.startElement("image", {key: str(value) for key, value in place.items()})
            for index, mask in image.masks(options):
                attributes = {"label": options.class_names[index], "source": "auto", **_shape(mask)}
                xml.startElement("mask", {key: str(value) for key, value in attributes.items()})
                xml.endElement("mask")
            xml.endElement("image")
        xml.endElement("annotations")
        xml.endDocument()


def _element(xml: XMLGenerator, name: str, text: str) -> None:
    xml.startElement(name, {})
    xml.characters(text)
    xml.endElement(name)


def _shape(mask: np.ndarray) -> dict[str, object]:
    """Returns the box of a mask, and its run lengths in it: row by row, outside comes first."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    values = np.concatenate([[False], inside.ravel()])
    # A first run of no length where the box begins inside.
    borders = np.concatenate([[0], np.flatnonzero(np.diff(values)), [values.size - 1]])
    return {
        "occluded": 0,
        "rle": ", ".join(map(str, np.diff(borders))),
        "left": columns[0],
        "top": rows[0],
        "width": inside.shape[1],
        "height": inside.shape[0],
        "z_order": 0,
    }
