"""COCO-Stuff from its pixel maps, and COCO's panoptic annotations as semantic labels."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from escnet_d2.io import DECODING_ERRORS, read_label_map

from ..datasets.builtin_meta import COCO_PANOPTIC_IDS, COCO_STUFF_VALUES
from .archives import COCO_PANOPTIC, COCO_STUFF_MAPS
from .conversion import Job, Prepared, Settings, label_folder, label_table, run_jobs, save_labels

_UNLABELLED = 255
# What mmsegmentation's converter writes beside the originals.
_FOREIGN_SUFFIX = "_labelTrainIds.png"


def prepare_coco_stuff(settings: Settings) -> Prepared:
    """Converts the PNGs of stuffthingmaps, those splits that are there.

    Values 0 to 181 are COCO's ids less one, of which 171 are classes; 255 and the rest become 255.

    Args:
        settings: ``root`` holds ``coco-stuff/annotations/{train,val}2017``.

    Raises:
        FileNotFoundError: neither split is there.
        ValueError: a label map cannot be read, or has a value that is no byte.
    """
    table = label_table({value: index for index, value in enumerate(COCO_STUFF_VALUES)})
    result = Prepared()
    for name, split in (("train", "train2017"), ("test", "val2017")):
        source = settings.root / "coco-stuff/annotations" / split
        files = [f for f in sorted(source.glob("*.png")) if not f.name.endswith(_FOREIGN_SUFFIX)]
        if not files:
            continue
        dataset = f"coco_2017_{name}_stuff_all_sem_seg"
        target = label_folder(dataset, settings)
        jobs = [Job(file, (target / file.name,)) for file in files]
        convert = partial(convert_stuff_map, table=table)
        run_jobs(jobs, convert, settings=settings, title=f"COCO-Stuff {split}")
        result.datasets.append(dataset)
    if not result.datasets:
        folder = settings.root / "coco-stuff/annotations"
        raise FileNotFoundError(
            f"There are no label maps in {folder}/train2017 or {folder}/val2017. "
            f"{COCO_STUFF_MAPS.how_to_get(settings.root)}"
        )
    return result


def convert_stuff_map(job: Job, *, table: np.ndarray) -> None:
    """Writes one label map of COCO-Stuff.

    Args:
        job: the PNG and its target.
        table: uint8 (256,), class index by value.

    Raises:
        ValueError: the file has values that stuffthingmaps do not have.
    """
    labels = read_label_map(job.source)
    check_bytes(job.source, labels)
    strange = labels[(labels > COCO_STUFF_VALUES[-1]) & (labels != _UNLABELLED)]
    if strange.size:
        raise ValueError(
            f"{job.source} has the value {strange[0]}, which {COCO_STUFF_MAPS.name} does not have: "
            "stuff_*2017_pixelmaps and the 10k release are other files."
        )
    save_labels(table[labels], job.targets[0])


def prepare_coco_panoptic(settings: Settings) -> Prepared:
    """Converts COCO's panoptic PNGs and JSON, those splits that are there.

    Args:
        settings: ``root`` holds ``coco/annotations/panoptic_{train,val}2017.json`` and
            ``coco/panoptic_{train,val}2017``.

    Raises:
        FileNotFoundError: neither split is there, or a PNG is missing.
        ValueError: a PNG cannot be read or has segments that the JSON does not.
    """
    result = Prepared()
    for split in ("train", "val"):
        annotations = settings.root / f"coco/annotations/panoptic_{split}2017.json"
        folder = settings.root / f"coco/panoptic_{split}2017"
        if not annotations.is_file():
            continue
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{annotations} is there but {folder} is not: unpack panoptic_{split}2017.zip, "
                f"which {COCO_PANOPTIC.name} holds, in {folder.parent}."
            )
        dataset = f"coco_2017_{split}_panoptic_sem_seg"
        target = label_folder(dataset, settings)
        index_of_category = {id_: index for index, id_ in enumerate(COCO_PANOPTIC_IDS)}
        content = json.loads(annotations.read_text(encoding="utf-8"))
        jobs = [
            Job(
                folder / entry["file_name"],
                (target / entry["file_name"],),
                [(item["id"], item["category_id"]) for item in entry["segments_info"]],
            )
            for entry in content["annotations"]
        ]
        convert = partial(convert_panoptic_map, index_of_category=index_of_category)
        run_jobs(jobs, convert, settings=settings, title=f"COCO panoptic {split}2017")
        result.datasets.append(dataset)
    if not result.datasets:
        raise FileNotFoundError(
            f"There is no panoptic_*2017.json in {settings.root / 'coco/annotations'}. "
            f"{COCO_PANOPTIC.how_to_get(settings.root)}"
        )
    return result


def convert_panoptic_map(job: Job, *, index_of_category: dict[int, int]) -> None:
    """Writes one panoptic PNG as semantic labels: R + 256 G + 65536 B is the id of a segment.

    Args:
        job: the PNG, its target, and (segment id, category id) pairs as content.
        index_of_category: class index by COCO's category id.

    Raises:
        ValueError: a file that cannot be read, or a segment or category that is not known.
    """
    try:
        with Image.open(job.source) as image:
            colours = np.asarray(image.convert("RGB")).astype(np.int64)
    except FileNotFoundError:
        raise
    except DECODING_ERRORS as error:
        raise ValueError(f"{job.source} cannot be read: {error}") from error
    segments = colours @ np.array([1, 256, 65536])
    labels = np.full(segments.shape, _UNLABELLED, dtype=np.uint8)
    unknown = set(np.unique(segments).tolist()) - {0} - {segment for segment, _ in job.content}
    if unknown:
        raise ValueError(f"{job.source} has segments without annotation: {sorted(unknown)[:5]}.")
    for segment, category in job.content:
        if category not in index_of_category:
            raise ValueError(f"{job.source}: {category} is no category of COCO panoptic.")
        labels[segments == segment] = index_of_category[category]
    save_labels(labels, job.targets[0])


def check_bytes(file: Path, labels: np.ndarray) -> None:
    """Raises ValueError unless all labels are in 0..255."""
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"{file} has values outside 0..255: is it the right file?")
