"""COCO-Stuff from its pixel maps, and COCO's panoptic annotations as semantic labels."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from ..datasets.builtin_meta import COCO_PANOPTIC_IDS, COCO_STUFF_VALUES
from .archives import COCO_PANOPTIC, COCO_STUFF_MAPS
from .conversion import LabelWriter, read_8bit_labels, read_rgb

_UNLABELED = 255
_STUFF_HINT = (
    f"{COCO_STUFF_MAPS.name} has 0 to 181 and 255; stuff_*2017_pixelmaps and the 10k release are "
    "other files."
)
# What mmsegmentation's converter writes beside the originals.
_FOREIGN_SUFFIX = "_labelTrainIds.png"


def prepare_coco_stuff(writer: LabelWriter) -> list[str]:
    """Converts the PNGs of stuffthingmaps, those splits that are there.

    Values 0 to 181 are COCO's ids less one, of which 171 are classes; 255 and the rest become 255.
    """
    index_of_value = dict.fromkeys((*range(182), 255), _UNLABELED)
    index_of_value.update({value: index for index, value in enumerate(COCO_STUFF_VALUES)})
    read = partial(read_8bit_labels, index_of_value=index_of_value, hint=_STUFF_HINT)
    written = []
    for name, split in (("train", "train2017"), ("test", "val2017")):
        source = writer.root / "coco-stuff/annotations" / split
        files = [f for f in sorted(source.glob("*.png")) if not f.name.endswith(_FOREIGN_SUFFIX)]
        if not files:
            continue
        dataset = f"coco_2017_{name}_stuff_all_sem_seg"
        writer.write(dataset, read, {file.stem: (file,) for file in files})
        written.append(dataset)
    if not written:
        folder = writer.root / "coco-stuff/annotations"
        what = f"There are no label maps in {folder}/train2017 or {folder}/val2017."
        raise COCO_STUFF_MAPS.missing(writer.root, what)
    return written


def prepare_coco_panoptic(writer: LabelWriter) -> list[str]:
    """Converts COCO's panoptic PNGs and JSON, those splits that are there."""
    written = []
    for split in ("train", "val"):
        annotations = writer.root / f"coco/annotations/panoptic_{split}2017.json"
        folder = writer.root / f"coco/panoptic_{split}2017"
        if not annotations.is_file():
            continue
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{annotations} is there but {folder} is not: unpack panoptic_{split}2017.zip, "
                f"which {COCO_PANOPTIC.name} holds, in {folder.parent}."
            )
        dataset = f"coco_2017_{split}_panoptic_sem_seg"
        try:
            files = {
                Path(entry["file_name"]).stem: (
                    folder / entry["file_name"],
                    {item["id"]: item["category_id"] for item in entry["segments_info"]},
                )
                for entry in json.loads(annotations.read_text(encoding="utf-8"))["annotations"]
            }
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{annotations} is not a file of COCO panoptic: {error!r}") from error
        writer.write(dataset, _read_panoptic_map, files)
        written.append(dataset)
    if not written:
        what = f"There is no panoptic_*2017.json in {writer.root / 'coco/annotations'}."
        raise COCO_PANOPTIC.missing(writer.root, what)
    return written


def _read_panoptic_map(file: Path, categories: dict[int, int]) -> np.ndarray:
    """Reads one panoptic PNG as semantic labels: R + 256 G + 65536 B is the id of a segment."""
    segments = read_rgb(file).astype(np.int64) @ np.array([1, 256, 65536])
    labels = np.full(segments.shape, _UNLABELED, dtype=np.uint8)
    unknown = set(np.unique(segments).tolist()) - {0} - set(categories)
    if unknown:
        raise ValueError(f"{file} has segments without annotation: {sorted(unknown)[:5]}.")
    for segment, category in categories.items():
        if category not in COCO_PANOPTIC_IDS:
            raise ValueError(f"{file}: {category} is not a category of COCO panoptic.")
        labels[segments == segment] = COCO_PANOPTIC_IDS.index(category)
    return labels
