"""The archives of the benchmarks: where their owners publish them and where they are unpacked to.

Nothing is downloaded here: some archives need a registration, all have terms to agree to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """A file that the owners of a data set publish.

    Attributes:
        name: its file name.
        url: the download, or the page that leads to it.
        unpack_to: the folder, below the data sets' root, to unpack it in or to put it in.
        terms: license or terms, as the owners state them.
        note: what else a user should know.
        releases: glob patterns of the folders of other releases, which users have instead.
    """

    name: str
    url: str
    unpack_to: str
    terms: str
    note: str = ""
    releases: tuple[str, ...] = ()

    def missing(self, root: Path, what: str) -> FileNotFoundError:
        """Returns the error that says what is missing, what is there instead, and the cure."""
        others = (path for pattern in self.releases for path in sorted(root.glob(pattern)))
        instead = "".join(f" {path} is another release." for path in others)
        return FileNotFoundError(f"{what}{instead} {self.how_to_get(root)}")

    def how_to_get(self, root: Path) -> str:
        """Says in a sentence where the archive is published and where its content belongs."""
        folder = root / self.unpack_to
        verb = "unpack" if self.name.endswith((".zip", ".tar", ".gz")) else "put"
        note = f" ({self.note})" if self.note else ""
        return f"Get {self.name} from {self.url}{note} and {verb} it in {folder}."


_COCO_TERMS = "photos: Flickr's terms, each with its own license; annotations: CC BY 4.0"
_ADE_TERMS = "non-commercial research and education"
_VOC_TERMS = "photos: Flickr's terms"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"

COCO_TRAIN_IMAGES, COCO_VAL_IMAGES = (
    Archive(
        f"{split}2017.zip",
        f"http://images.cocodataset.org/zips/{split}2017.zip",
        "coco-stuff/images",
        _COCO_TERMS,
    )
    for split in ("train", "val")
)
COCO_STUFF_MAPS = Archive(
    "stuffthingmaps_trainval2017.zip",
    "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
    "stuffthingmaps_trainval2017.zip",
    "coco-stuff/annotations",
    "CC BY 4.0",
)
COCO_PANOPTIC = Archive(
    "panoptic_annotations_trainval2017.zip",
    "http://images.cocodataset.org/annotations/panoptic_annotations_trainval2017.zip",
    "coco",
    _COCO_TERMS,
    "and unpack the archives in it, annotations/panoptic_*2017.zip, in the same folder",
)
ADE20K_CHALLENGE = Archive(
    "ADEChallengeData2016.zip",
    "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    ".",
    _ADE_TERMS,
    releases=("ADE20K_2021_17_01", "ADE20K_2016_07_26"),
)
ADE20K_FULL = Archive(
    "ADE20K_2021_17_01.zip",
    "https://groups.csail.mit.edu/vision/datasets/ADE20K/request_data/",
    ".",
    _ADE_TERMS,
    "after registration",
    releases=("ADEChallengeData2016", "ADE20K_2016_07_26"),
)
VOC_2012 = Archive(
    "VOCtrainval_11-May-2012.tar",
    f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
    ".",
    _VOC_TERMS,
    releases=("VOCdevkit/VOC20[01][!2]",),
)
VOC_AUG = Archive(
    "SegmentationClassAug.zip",
    "https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip",
    "VOCdevkit/VOC2012",
    _VOC_TERMS,
    "made from SBD, http://home.bharathh.info/pubs/codes/SBD/download.html",
)
VOC_2010 = Archive(
    "VOCtrainval_03-May-2010.tar",
    f"{_VOC}/voc2010/VOCtrainval_03-May-2010.tar",
    ".",
    _VOC_TERMS,
    releases=("VOCdevkit/VOC20[01][!0]",),
)
PASCAL_CONTEXT_59 = Archive(
    "trainval_merged.json",
    "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
    "VOCdevkit/VOC2010",
    "none stated",
)
PASCAL_CONTEXT_459 = Archive(
    "trainval.tar.gz",
    "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
    "VOCdevkit/VOC2010",
    "none stated",
    "a mirror: https://roozbehm.info/pascal-context/trainval.tar.gz",
)
