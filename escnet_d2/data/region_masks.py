"""Masks that come with an image: read from disk, or the connected regions of its label map.

Shapes: M masks, H x W pixels of the image file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
from detectron2.config import CfgNode
from PIL import Image
from pycocotools import mask as coco_mask

from escnet_d2.config import method_of
from escnet_d2.io import read_label_map, write_json
from escnet_d2.io.images import DECODING_ERRORS


class RegionMasks:
    """Finds the masks of an image file by MODEL.MASKS."""

    def __init__(self, folder: str | os.PathLike | None) -> None:
        """Takes the folder of the files; None for regions of label maps."""
        self.folder = None if folder is None else Path(folder)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RegionMasks | None:
        """Reads MODEL.MASKS; None where the model finds masks itself, or wants none.

        Raises:
            FileNotFoundError: MODEL.MASKS.DIR of the source "file" is not a folder.
        """
        node = cfg.MODEL.MASKS
        if not method_of(cfg).reads_masks or node.SOURCE not in ("file", "truth"):
            return None
        if node.SOURCE == "truth":
            return cls(None)
        if not node.DIR or not Path(node.DIR).is_dir():
            raise FileNotFoundError(
                f"MODEL.MASKS.DIR must be a folder of masks for MODEL.MASKS.SOURCE 'file', got "
                f"{node.DIR!r}. tools/precompute_masks.py fills one."
            )
        return cls(node.DIR)

    def read(
        self, image_file: str | os.PathLike, size: tuple[int, int], label_file: str | None
    ) -> np.ndarray:
        """Reads the masks of an image.

        Args:
            image_file: its path.
            size: its (height, width).
            label_file: its label map, for regions.

        Returns:
            Bool (M, H, W).

        Raises:
            FileNotFoundError: there is no file of masks.
            ValueError: it is damaged or of an image of another size or name, or there is no label
                map.
        """
        if self.folder is None:
            if label_file is None:
                raise ValueError(
                    f"{image_file} has no label map, which MODEL.MASKS.SOURCE 'truth' needs."
                )
            file, masks = label_file, split_regions(connected_regions(read_label_map(label_file)))
        else:
            file = self._file(Path(image_file))
            masks = read_masks(file, size, image_name=Path(image_file).name)
        if masks.shape[1:] != tuple(size):
            raise ValueError(
                f"{file} has masks of {masks.shape[2]} x {masks.shape[1]} pixels, but the image "
                f"{image_file} is {size[1]} x {size[0]}."
            )
        return masks

    def _file(self, image_file: Path) -> Path:
        files = [self.folder / f"{image_file.stem}{suffix}" for suffix in (".json", ".png")]
        for file in files:
            if file.is_file():
                return file
        raise FileNotFoundError(
            f"MODEL.MASKS.DIR has no masks of {image_file}: neither {files[0]} nor {files[1].name}."
        )


def read_masks(file: Path, size: tuple[int, int], *, image_name: str) -> np.ndarray:
    """Reads a file of masks.

    Args:
        file: JSON as of the data set SA-1B (``annotations`` with a COCO ``segmentation`` each) or
            the list that SAM's automatic generator writes; or a PNG whose values number regions,
            RGB ones as in COCO's panoptic format, and 0 is none.
        size: (height, width) of the image, where a file without a mask does not tell.
        image_name: file name of the image, which a file that names another one is not of.

    Returns:
        Bool (M, H, W).

    Raises:
        ValueError: the file is damaged, or of another image.
    """
    if file.suffix == ".png":
        return split_regions(_panoptic_ids(file), skip_zero=True)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        records = content
        if isinstance(content, dict):
            records = content["annotations"]
            named = content.get("image", {}).get("file_name", image_name)
            if named != image_name:
                raise ValueError(f"it has the masks of {named}, not of {image_name}")
        rles = [_compressed(record["segmentation"]) for record in records]
        masks = [coco_mask.decode(rle).astype(bool) for rle in rles]
    except (KeyError, TypeError, AttributeError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no file of masks: {type(error).__name__}: {error}.") from error
    if len({mask.shape for mask in masks}) > 1:
        raise ValueError(f"{file} has masks of different sizes.")
    return np.stack(masks) if masks else np.zeros((0, *size), dtype=bool)


def write_masks(file: Path, masks: np.ndarray, *, image_name: str) -> None:
    """Writes a file that :func:`read_masks` reads, as of the data set SA-1B.

    Args:
        file: JSON.
        masks: bool (M, H, W).
        image_name: file name of the image.
    """
    annotations = []
    for mask in masks:
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation = {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}
        annotations.append({"segmentation": segmentation, "area": int(mask.sum())})
    height, width = masks.shape[1:]
    image = {"file_name": image_name, "height": height, "width": width}
    write_json(file, {"image": image, "annotations": annotations})


def connected_regions(labels: np.ndarray) -> np.ndarray:
    """Numbers the connected regions of equal labels, integers (H, W), from 0."""
    regions = np.zeros(labels.shape, np.int64)
    count = 0
    for value in np.unique(labels):
        number, found = cv2.connectedComponents((labels == value).astype(np.uint8))
        regions[found > 0] = found[found > 0] + count - 1
        count += number - 1
    return regions


def split_regions(regions: np.ndarray, *, skip_zero: bool = False) -> np.ndarray:
    """Makes a mask of each value, (H, W) integers to bool (M, H, W)."""
    values = [value for value in np.unique(regions) if value or not skip_zero]
    return np.array([regions == value for value in values], dtype=bool).reshape(-1, *regions.shape)


def _compressed(segmentation: dict) -> dict:
    """COCO's run lengths in the form that decodes: uncompressed ones are lists."""
    if isinstance(segmentation["counts"], list):
        height, width = segmentation["size"]
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def _panoptic_ids(file: Path) -> np.ndarray:
    """Reads region numbers, (H, W); RGB ones are R + 256 G + 256^2 B."""
    try:
        with Image.open(file) as image:
            if image.mode != "RGB":
                return read_label_map(file)
            pixels = np.asarray(image).astype(np.int64)
    except DECODING_ERRORS as error:
        raise ValueError(f"{file} is no file of masks: {error}") from error
    return pixels @ np.array([1, 256, 256**2])
