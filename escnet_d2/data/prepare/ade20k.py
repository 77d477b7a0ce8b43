"""ADE20K-150 from the scene parsing challenge of 2016."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .ade20k_full import FULL_FOLDER
from .archives import ADE20K_CHALLENGE
from .conversion import LabelWriter, read_8bit_labels

CHALLENGE_FOLDER = "ADEChallengeData2016"
_DATASET = "ade20k_150_test_sem_seg"
_NUM_CLASSES = 150
_UNLABELED = 255


def prepare_ade20k_150(writer: LabelWriter) -> list[str]:
    """Converts the validation split: 1 to 150 become 0 to 149, 0 ("other") becomes 255."""
    source = writer.root / CHALLENGE_FOLDER / "annotations/validation"
    files = sorted(source.glob("*.png"))
    if not files:
        others = [f for f in (FULL_FOLDER, "ADE20K_2016_07_26") if (writer.root / f).is_dir()]
        wrong = f" {others[0]} is the full ADE20K, which A-847 is made from." if others else ""
        raise FileNotFoundError(
            f"There are no label maps in {source}.{wrong} "
            f"{ADE20K_CHALLENGE.how_to_get(writer.root)}"
        )
    writer.write(_DATASET, _read_labels, {file.stem: (file,) for file in files})
    return [_DATASET]


def _read_labels(file: Path) -> np.ndarray:
    try:
        labels = read_8bit_labels(file)
    except ValueError as error:
        raise ValueError(
            f"{error} The label maps of {ADE20K_CHALLENGE.name} are gray; the full ADE20K's are "
            "colored."
        ) from error
    if labels.max() > _NUM_CLASSES:
        raise ValueError(
            f"{file} has the value {labels.max()}: the label maps of {ADE20K_CHALLENGE.name} have "
            f"0 to {_NUM_CLASSES}. Was it converted before?"
        )
    return np.where(labels == 0, _UNLABELED, labels - 1).astype(np.uint8)
