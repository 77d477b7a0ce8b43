"""COCO's JSON, with masks as compressed run lengths, as pycocotools reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from escnet_d2.io import atomic_text

from .labeled_image import ExportOptions, LabeledImage


def write(folder: Path, images: Iterable[LabeledImage], options: ExportOptions) -> None:
    """Writes ``annotations.json``; category i + 1 is class i, since 0 is nobody's in COCO."""
    listed, separator, count = [], "", 0
    with atomic_text(folder / "annotations.json") as file:
        # Masks go to the file one by one, as those of many images do not fit into memory.
        file.write('{"annotations": [')
        for image_id, image in enumerate(images, start=1):
            height, width = image.labels.shape
            entry = {"id": image_id, "file_name": image.file, "height": height, "width": width}
            listed.append(entry)
            for index, mask in image.masks(options):
                count += 1
                rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
                annotation = {
                    "id": count,
                    "image_id": image_id,
                    "category_id": index + 1,
                    "area": int(coco_mask.area(rle)),
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "iscrowd": 0,
                    "score": image.scores[index],
                    "segmentation": {
                        "size": [height, width],
                        "counts": rle["counts"].decode("ascii"),
                    },
                }
                file.write(f"{separator}\n{json.dumps(annotation)}")
                separator = ","
        categories = [
            {"id": index + 1, "name": options.class_names[index], "supercategory": ""}
            for index in options.things
        ]
        file.write(
            f'],\n"images": {json.dumps(listed)},\n"categories": {json.dumps(categories)}}}\n'
        )
