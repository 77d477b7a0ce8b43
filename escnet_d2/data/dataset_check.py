"""Reads every file of a data set and says what training or evaluation would trip over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from .folder_dataset import MANIFEST_NAME, register_prepared_folder
from .pair_checks import EIGHT_BIT_TYPES, LabelTally, examine_pairs
from .sem_seg_dataset import SemSegDataset

_EIGHT_BITS = 256
# What releases write for unlabelled pixels, whatever the metadata say.
_USUAL_UNLABELLED = {"8 bit": (255,), "16 bit": (65535,)}


@dataclass
class DatasetReport:
    """What was found of one data set.

    Attributes:
        name: in Detectron2's catalogues.
        class_names: K names, in label order.
        num_images: labelled images.
        expected_images: labelled images of a complete copy; None where nobody knows.
        tally: labels of all files.
        problems: everything that is wrong, one sentence each.
    """

    name: str
    class_names: list[str]
    num_images: int
    expected_images: int | None
    tally: LabelTally
    problems: list[str] = field(default_factory=list)

    @property
    def absent_classes(self) -> list[str]:
        """Names of the classes that no pixel has."""
        pixels = self.tally.class_pixels
        return [name for name, count in zip(self.class_names, pixels) if count == 0]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        tally = self.tally
        return {
            "name": self.name,
            "num_images": self.num_images,
            "expected_images": self.expected_images,
            "num_classes": tally.num_classes,
            "ignore_label": tally.ignore_label,
            "label_types": dict(tally.label_types),
            "unlabelled_pixels": tally.unlabelled_pixels,
            "absent_classes": self.absent_classes,
            "class_pixels": tally.class_pixels.tolist(),
            "class_images": tally.class_images.tolist(),
            "problems": self.problems,
        }


def find_datasets(name: str) -> list[str]:
    """The data sets that a name of the command line means.

    Args:
        name: a registered data set; or a folder with ``dataset.json``, all splits of which are
            registered.

    Raises:
        ValueError: neither; or the file is damaged.
    """
    if name in DatasetCatalog:
        return [name]
    path = Path(name).expanduser()
    if path.name == MANIFEST_NAME or (path / MANIFEST_NAME).is_file():
        return register_prepared_folder(path)
    known = ", ".join(
        sorted(n for n in DatasetCatalog if MetadataCatalog.get(n).get("stuff_classes"))
    )
    raise ValueError(
        f"{name!r} is neither a registered data set nor a folder with {MANIFEST_NAME}. "
        f"Registered: {known}."
    )


def check_dataset(
    name: str, *, num_workers: int = 0, headers_only: bool = False, root: Path | None = None
) -> DatasetReport:
    """Reads all files of one data set.

    Args:
        name: a registered data set with ``stuff_classes``.
        num_workers: processes to use beside this one.
        headers_only: do not decode images; label maps are read whatever this says.
        root: where the benchmarks are, by default as ``$DETECTRON2_DATASETS`` says.

    Raises:
        ValueError: the data set has no class names.
    """
    metadata = MetadataCatalog.get(name)
    class_names = list(metadata.get("stuff_classes") or ())
    if not class_names:
        raise ValueError(f"The data set {name} has no stuff_classes: it is none of this kind.")
    tally = LabelTally(len(class_names), metadata.get("ignore_label", 255))
    report = DatasetReport(name, class_names, 0, metadata.get("expected_images"), tally)
    pairs = _pairs(report, root)
    report.num_images = len(pairs)
    if report.expected_images not in (None, report.num_images):
        report.problems.append(
            f"{report.num_images} labelled images, expected {report.expected_images}."
        )
    if not pairs:
        return report
    key = "8 bit" if len(class_names) < _EIGHT_BITS else "16 bit"
    facts = examine_pairs(pairs, num_workers=num_workers, headers_only=headers_only)
    # disable=None: no bar where nobody watches.
    for found in tqdm(facts, total=len(pairs), desc=name, unit="image", disable=None):
        tally.add(found, accepted=_USUAL_UNLABELLED[key])
    report.problems += tally.problems
    report.problems += tally.stray_values
    if len(class_names) > _EIGHT_BITS:
        narrow = sum(tally.label_types[kind] for kind in EIGHT_BIT_TYPES)
        if narrow:
            report.problems.append(
                f"{narrow} label maps have 8 bits, which cannot hold {len(class_names)} classes."
            )
    return report


def _pairs(report: DatasetReport, root: Path | None) -> list[tuple[str, str]]:
    """Images and label maps; what is missing goes to the report."""
    entry = DatasetCatalog[report.name]
    try:
        if isinstance(entry, SemSegDataset):
            files = entry.find_files(root)
            if not entry.labels_select:
                report.problems += [
                    f"{file} has no label map." for file in files.images_without_label
                ]
            report.problems += [f"{file} has no image." for file in files.labels_without_image]
            return [(str(image), str(label)) for image, label in files.pairs]
        samples = DatasetCatalog.get(report.name)
    except (OSError, ValueError, AssertionError) as error:
        # Detectron2's own loader asserts that there are files.
        report.problems.append(str(error) or f"{type(error).__name__} when listing the files.")
        return []
    bare = [sample["file_name"] for sample in samples if "sem_seg_file_name" not in sample]
    report.problems += [f"{file} has no sem_seg_file_name." for file in bare]
    return [
        (sample["file_name"], sample["sem_seg_file_name"])
        for sample in samples
        if "sem_seg_file_name" in sample
    ]
