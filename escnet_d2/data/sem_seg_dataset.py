"""A semantic-segmentation data set as Detectron2's catalogs know it.

One class holds the facts, and one function registers it, so that no metadata key is typed twice.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from .file_pairs import IMAGE_SUFFIXES, LABEL_SUFFIXES, FilePairs, pair_files

logger = logging.getLogger(__name__)

ROOT_VARIABLE = "DETECTRON2_DATASETS"
_ROOT_KEYS = ("image_root", "sem_seg_root", "seg_seg_root")


def datasets_root() -> Path:
    """Returns the folder of the benchmarks: ``$DETECTRON2_DATASETS``, by default ``./datasets``."""
    return Path(os.environ.get(ROOT_VARIABLE) or "datasets").expanduser().absolute()


@dataclass(frozen=True)
class SemSegDataset:
    """Images, label maps and class names of one split; calling it lists its samples.

    Attributes:
        name: the key in both catalogs.
        layouts: pairs of the folders of images and of label maps, absolute or below
            :func:`datasets_root`: that which a preparation writes, and any others in which releases
            lay out the same content.
        classes: output classes in label order; synonyms are joined by ``", "``.
        ignore_label: the value of unlabeled pixels; any value >= K is unlabeled as well.
        evaluator_type: Detectron2's key for choosing an evaluator.
        image_suffixes: lower-case suffixes of the images.
        label_suffixes: lower-case suffixes of the label maps.
        labels_select: the label folder defines the split and images without a label map are
            expected (PASCAL keeps all splits in one image folder).
        expected_images: how many labeled images a complete copy has, if known.
        vocabulary_classes: the text entries, where they differ from ``classes``.
        vocabulary_to_class: index into ``classes`` of each text entry.
        hint: what to do when a folder is missing, appended to the error.
        class_list: name of the bundled list that ``classes`` come from, by which its variants are
            found (``escnet_d2.data.class_lists``); empty for none.
        dataset_ids: the owners' id of each class, for predictions in COCO's format.
    """

    name: str
    layouts: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    ignore_label: int = 255
    evaluator_type: str = "sem_seg"
    image_suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    label_suffixes: tuple[str, ...] = LABEL_SUFFIXES
    labels_select: bool = False
    expected_images: int | None = None
    vocabulary_classes: tuple[str, ...] = ()
    vocabulary_to_class: tuple[int, ...] = ()
    hint: str = ""
    class_list: str = ""
    dataset_ids: tuple[int, ...] = ()

    def prepared_folders(self, root: Path | None = None) -> tuple[Path, Path]:
        """Returns the folders of images and of label maps that a preparation writes for it.

        Args:
            root: where relative folders are; by default :func:`datasets_root` as it is now.
        """
        return self._below(root)[0]

    def folders(self, root: Path | None = None) -> tuple[Path, Path]:
        """Finds the first pair of folders that both exist, else :meth:`prepared_folders`."""
        layouts = self._below(root)
        # Not Path.is_dir, which raises below a folder that this user may not enter.
        return next((pair for pair in layouts if all(map(os.path.isdir, pair))), layouts[0])

    def find_files(self, root: Path | None = None) -> FilePairs:
        """Pairs images and label maps in :meth:`folders`.

        Raises:
            FileNotFoundError: a folder does not exist.
            ValueError: a folder is empty, or no image has a label map.
        """
        image_root, sem_seg_root = self.folders(root)
        try:
            files = pair_files(
                image_root,
                sem_seg_root,
                image_suffixes=self.image_suffixes,
                label_suffixes=self.label_suffixes,
            )
            if not files.pairs:
                raise ValueError(f"No image in {image_root} has a label map in {sem_seg_root}.")
        except (OSError, ValueError) as error:
            message = f"Data set {self.name}: {error} {self.hint}".rstrip()
            raise type(error)(message) from error
        return files

    def metadata(self) -> dict[str, Any]:
        """Returns the entries of the data set in Detectron2's MetadataCatalog."""
        image_root, sem_seg_root = (str(folder) for folder in self.folders())
        metadata = {
            "stuff_classes": list(self.classes),
            "ignore_label": self.ignore_label,
            "evaluator_type": self.evaluator_type,
            "image_root": image_root,
            "sem_seg_root": sem_seg_root,
            # A slip in the CAT-Seg and SED releases that tools have come to read.
            "seg_seg_root": sem_seg_root,
        }
        optional = {
            "expected_images": self.expected_images,
            "vocabulary_classes": list(self.vocabulary_classes),
            "vocabulary_to_class": list(self.vocabulary_to_class),
            "class_list": self.class_list,
            "stuff_dataset_id_to_contiguous_id": {
                dataset_id: index for index, dataset_id in enumerate(self.dataset_ids)
            },
        }
        return {**metadata, **{key: value for key, value in optional.items() if value}}

    def __call__(self) -> list[dict[str, str]]:
        """Lists the samples, as DatasetCatalog asks.

        Returns:
            Dicts with ``file_name``, ``sem_seg_file_name`` and ``dataset_name``, sorted by file.

        Raises:
            FileNotFoundError, ValueError: as in :meth:`find_files`.
        """
        files = self.find_files()
        current = self.metadata()
        # The root is read from the environment when the data set is loaded, and Detectron2 refuses
        # to overwrite an entry with another value.
        vars(MetadataCatalog.get(self.name)).update({key: current[key] for key in _ROOT_KEYS})
        if not self.labels_select:
            self._warn_left_out("image(s) without label map", files.images_without_label)
        self._warn_left_out("label map(s) without image", files.labels_without_image)
        self._warn_left_out("name(s) of no regular file", files.not_files)
        if self.expected_images is not None and len(files.pairs) != self.expected_images:
            logger.warning(
                "Data set %s has %d labeled images in %s, expected %d: results will not compare.",
                self.name,
                len(files.pairs),
                current["sem_seg_root"],
                self.expected_images,
            )
        return [
            {"file_name": str(i), "sem_seg_file_name": str(s), "dataset_name": self.name}
            for i, s in files.pairs
        ]

    def _below(self, root: Path | None) -> list[tuple[Path, Path]]:
        root = datasets_root() if root is None else root
        return [(root / images, root / labels) for images, labels in self.layouts]

    def _warn_left_out(self, what: str, files: list[Path]) -> None:
        if files:
            message = "Data set %s leaves out %d %s, such as %s."
            logger.warning(message, self.name, len(files), what, files[0])


def register_sem_seg(dataset: SemSegDataset) -> list[str]:
    """Registers a data set, unless its name is taken; its folders need not exist yet.

    Returns:
        What differs from a data set registered before under this name; empty when it was free or
        holds the same. Entries that the earlier metadata lack are added when nothing differs.
    """
    differences: list[str] = []
    if dataset.name in DatasetCatalog:
        differences = _differences(DatasetCatalog[dataset.name], dataset)
    else:
        DatasetCatalog.register(dataset.name, dataset)
    if not differences:
        known = MetadataCatalog.get(dataset.name).as_dict()
        missing = {key: value for key, value in dataset.metadata().items() if key not in known}
        MetadataCatalog.get(dataset.name).set(**missing)
    return differences


def _differences(registered: Any, dataset: SemSegDataset) -> list[str]:
    if isinstance(registered, SemSegDataset):
        fields = vars(dataset)
        return [key for key in fields if getattr(registered, key) != fields[key]]
    # Registered by another package: compare what decides whether results mean the same.
    metadata = MetadataCatalog.get(dataset.name)
    classes = [str(name).strip() for name in metadata.get("stuff_classes", [])]
    differences = [] if classes == list(dataset.classes) else ["classes"]
    if metadata.get("ignore_label") != dataset.ignore_label:
        differences.append("ignore_label")
    return differences
