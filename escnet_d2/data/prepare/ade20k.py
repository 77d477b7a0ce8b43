"""ADE20K-150 from the scene parsing challenge of 2016."""

from __future__ import annotations

from functools import partial

from .archives import ADE20K_CHALLENGE
from .conversion import LabelWriter, read_8bit_labels

_DATASET = "ade20k_150_test_sem_seg"
_INDEX_OF_VALUE = {0: 255, **{value: value - 1 for value in range(1, 151)}}
_HINT = (
    f"The label maps of {ADE20K_CHALLENGE.name} are gray, with 0 to 150; the full ADE20K's are "
    "colored, and those that were converted before have 255."
)


def prepare_ade20k_150(writer: LabelWriter) -> list[str]:
    """Converts the validation split: 1 to 150 become 0 to 149, 0 ("other") becomes 255."""
    source = writer.root / "ADEChallengeData2016/annotations/validation"
    files = sorted(source.glob("*.png"))
    if not files:
        raise ADE20K_CHALLENGE.missing(writer.root, f"There are no label maps in {source}.")
    read = partial(read_8bit_labels, index_of_value=_INDEX_OF_VALUE, hint=_HINT)
    writer.write(_DATASET, read, {file.stem: (file,) for file in files})
    return [_DATASET]
