"""ADE20K-150 from the scene parsing challenge of 2016."""

from __future__ import annotations

import numpy as np

from escnet_d2.io import read_label_map

from .ade20k_full import FULL_FOLDER
from .archives import ADE20K_CHALLENGE
from .coco import check_bytes
from .conversion import Job, Prepared, Settings, label_folder, run_jobs, save_labels

CHALLENGE_FOLDER = "ADEChallengeData2016"
_NUM_CLASSES = 150
_UNLABELLED = 255


def prepare_ade20k_150(settings: Settings) -> Prepared:
    """Converts the validation split: 1 to 150 become 0 to 149, 0 ("other") becomes 255.

    Args:
        settings: ``root`` holds ``ADEChallengeData2016/annotations/validation``.

    Raises:
        FileNotFoundError: the label maps are not there; names another variant of ADE20K that is.
        ValueError: a label map cannot be read, or is of another variant.
    """
    source = settings.root / CHALLENGE_FOLDER / "annotations/validation"
    files = sorted(source.glob("*.png"))
    if not files:
        others = [f for f in (FULL_FOLDER, "ADE20K_2016_07_26") if (settings.root / f).is_dir()]
        wrong = f" {others[0]} is the full ADE20K, which A-847 is made from." if others else ""
        raise FileNotFoundError(
            f"There are no label maps in {source}.{wrong} "
            f"{ADE20K_CHALLENGE.how_to_get(settings.root)}"
        )
    name = "ade20k_150_test_sem_seg"
    target = label_folder(name, settings)
    jobs = [Job(file, (target / file.name,)) for file in files]
    run_jobs(jobs, convert_challenge_map, settings=settings, title="ADE20K-150")
    return Prepared([name])


def convert_challenge_map(job: Job) -> None:
    """Writes one label map of the challenge.

    Raises:
        ValueError: it has colours or values that the challenge's files do not have.
    """
    try:
        labels = read_label_map(job.source)
    except ValueError as error:
        raise ValueError(
            f"{error} The label maps of {ADE20K_CHALLENGE.name} are grey; the full ADE20K's are "
            "coloured."
        ) from error
    check_bytes(job.source, labels)
    if labels.max() > _NUM_CLASSES:
        raise ValueError(
            f"{job.source} has the value {labels.max()}: the label maps of "
            f"{ADE20K_CHALLENGE.name} have 0 to {_NUM_CLASSES}. Was it converted before?"
        )
    save_labels(np.where(labels == 0, _UNLABELLED, labels - 1).astype(np.uint8), job.targets[0])
