"""Each format, read back pixel by pixel: by its tool's own package where it is installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from escnet_d2.outputs import ImageFile, RunFolder
from escnet_d2.outputs.annotations import FORMATS, check_export, export_run
from escnet_d2.outputs.annotations.label_studio import encode_rle
from escnet_d2.outputs.annotations.yolo_seg import polygons
from escnet_d2.outputs.run_folder import lock_file
from escnet_d2.structures import Segmentation, Vocabulary

CLASSES = ["background", "sky", "dog & <cat>", "grünes Gras"]
# Rectangles (class, rows, columns) over one another: holes, a hole in an island in a hole, regions
# of one and of two pixels, regions that touch at a corner, the whole width, and no class at all.
SHAPES = [
    (1, (0, 24), (0, 40)),
    (2, (3, 21), (5, 30)),
    (1, (5, 15), (8, 20)),
    (3, (7, 13), (10, 18)),
    (2, (9, 11), (12, 14)),
    (0, (16, 20), (10, 22)),
    (3, (2, 3), (33, 34)),
    (3, (5, 6), (33, 35)),
    (3, (10, 13), (33, 35)),
    (3, (13, 15), (35, 38)),
    (-1, (18, 23), (32, 39)),
    (3, (24, 27), (0, 40)),
]


def labels_of(shapes):
    labels = np.zeros((27, 40), np.int32)
    for index, rows, columns in shapes:
        labels[slice(*rows), slice(*columns)] = index
    return labels


LABELS = {
    "a": labels_of(SHAPES),
    "sub/b.c": labels_of(SHAPES)[::-1, :37],
    "empty": np.full((5, 9), -1, np.int32),
    "nothing": np.zeros((6, 3), np.int32),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with four images, and the photos beside it."""
    return make_run(tmp_path_factory.mktemp("run"), Vocabulary.from_classes(CLASSES), LABELS)


def make_run(folder, vocabulary, labels):
    out = RunFolder(folder / "out", vocabulary, description={}, settings={})
    with out.open():
        for name, label_map in labels.items():
            pixels = np.zeros((*label_map.shape, 3), np.uint8)
            path = folder / f"photos/{name}{'.gif' if name == 'nothing' else '.png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            scores = np.full(label_map.shape, 0.5, np.float32)
            result = Segmentation(label_map, scores, vocabulary.class_names)
            out.write(ImageFile(path, name), pixels, result)
    return folder / "out"


@pytest.fixture
def export(run, tmp_path):
    def export(name, **options):
        shutil.copytree(run, tmp_path / "out")
        assert export_run(tmp_path / "out", [name], **options) == 4
        return tmp_path / "out" / name

    return export


def things(labels):
    """What object formats hold: -1 for the background too."""
    return np.where(labels == 0, -1, labels)


def paint(labels, masks):
    """Labels of (class, mask) pairs; -1 elsewhere. Masks must not overlap."""
    painted = np.full(labels.shape, -1)
    for index, mask in masks:
        assert (painted[mask] == -1).all()
        painted[mask] = index
    return painted


@pytest.mark.parametrize("separate", [False, True])
def test_coco(export, separate):
    folder = export("coco", separate_regions=separate)
    coco = COCO(str(folder / "annotations.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == CLASSES[1:]
    files = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert set(files) == {"a.png", "sub/b.c.png", "empty.png", "nothing.gif"}
    number = 0
    for name, labels in LABELS.items():
        image = files[f"{name}.gif" if name == "nothing" else f"{name}.png"]
        assert (image["height"], image["width"]) == labels.shape
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        masks = [(a["category_id"] - 1, coco.annToMask(a).astype(bool)) for a in found]
        np.testing.assert_array_equal(paint(labels, masks), things(labels))
        for annotation, (_, mask) in zip(found, masks):
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box
            assert annotation["area"] == mask.sum()
            assert annotation["score"] == 0.5
        number += len(found)
    # 3 classes in each of the first two images, or their regions.
    assert number > 12 if separate else number == 6


def read_yolo(folder, name, shape):
    """As https://docs.ultralytics.com/datasets/segment describes it, filled as ultralytics does."""
    height, width = shape
    for line in (folder / "labels" / f"{name}.txt").read_text().splitlines():
        index, *values = line.split()
        points = np.array(values, float).reshape(-1, 2) * (width, height)
        assert len(points) >= 3
        mask = np.zeros(shape, np.uint8)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
        yield int(index) + 1, mask.astype(bool)


def test_yolo(export):
    folder = export("yolo-seg", simplify=0)
    data = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
    assert data["names"] == dict(enumerate(CLASSES[1:]))
    images = {p.relative_to(folder / data["train"]) for p in (folder / "images").rglob("*.*")}
    assert {str(path) for path in images} == {"a.png", "sub/b.c.png", "empty.png", "nothing.png"}
    for name, labels in LABELS.items():
        painted = paint(labels, read_yolo(folder, name, labels.shape))
        np.testing.assert_array_equal(painted, things(labels))


def blobs(blur):
    noise = np.random.default_rng(0).random((60, 80)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), blur) > 0.5


def fill(mask, simplify):
    filled = np.zeros(mask.shape, np.uint8)
    found = list(polygons(mask, simplify))
    for polygon in found:
        cv2.fillPoly(filled, [(polygon * mask.shape[::-1]).astype(np.int32)], 1)
    return filled.astype(bool), sum(map(len, found))


# From specks, with hundreds of holes in one region, to smooth regions.
@pytest.mark.parametrize("blur", [0.3, 0.8, 2])
def test_polygons_are_exact(blur):
    filled, _ = fill(blobs(blur), 0)
    np.testing.assert_array_equal(filled, blobs(blur))


def test_simplified_polygons_are_short_and_close():
    mask = blobs(2)
    (_, exact), (filled, simple) = fill(mask, 0), fill(mask, 1.5)
    assert simple < 0.6 * exact
    assert (filled & mask).sum() / (filled | mask).sum() > 0.85


def test_png(export):
    folder = export("png")
    described = json.loads((folder / "label_map.json").read_text(encoding="utf-8"))
    assert described["unlabeled"] == 255
    assert [entry["name"] for entry in described["classes"]] == CLASSES
    for name, labels in LABELS.items():
        with Image.open(folder / "masks" / f"{name}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), np.where(labels < 0, 255, labels))
            colors = np.asarray(image.convert("RGB"))
        for entry in described["classes"]:
            assert (colors[labels == entry["value"]] == entry["color"]).all()


def test_png_of_many_classes_has_16_bits(tmp_path):
    names = [f"name {index}" for index in range(300)]
    labels = np.arange(-1, 299, dtype=np.int32).reshape(15, 20)
    out = make_run(tmp_path, Vocabulary.from_classes(names), {"a": labels})
    export_run(out, ["png"])
    with Image.open(out / "png/masks/a.png") as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), np.where(labels < 0, 65535, labels))


def decode_brush(rle):
    """thi.ng/umbrella's rle-pack, from its JavaScript."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    position = 0

    def read(size):
        nonlocal position
        position += size
        return int(bits[position - size : position], 2)

    count, word, sizes = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < count:
        is_run = read(1)
        length = 1 + read(sizes[read(2)])
        values += [read(word)] * length if is_run else [read(word) for _ in range(length)]
    assert len(values) == count
    assert len(bits) - position < 8
    return values


def brush_decoders():
    yield decode_brush
    if importlib.util.find_spec("label_studio_sdk"):
        from label_studio_sdk.converter.brush import decode_rle

        yield decode_rle


@pytest.mark.parametrize("decode", [*brush_decoders()], ids=lambda function: function.__module__)
def test_label_studio(export, decode):
    folder = export("labelstudio", image_prefix="http://server/")
    config = ElementTree.parse(folder / "label_config.xml").getroot()
    assert [label.get("value") for label in config.iter("Label")] == CLASSES[1:]
    names = {tag.get("name"): tag.tag for tag in config if tag.get("name")}
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    found = {unquote(task["data"]["image"]): task for task in tasks}
    for name, labels in LABELS.items():
        file = f"{name}.gif" if name == "nothing" else f"{name}.png"
        masks = []
        for result in found[f"http://server/{file}"]["predictions"][0]["result"]:
            assert (names[result["from_name"]], names[result["to_name"]]) == (
                "BrushLabels",
                "Image",
            )
            assert (result["original_height"], result["original_width"]) == labels.shape
            values = np.reshape(decode(result["value"]["rle"]), (*labels.shape, 4))
            assert set(np.unique(values)) <= {0, 255}
            assert (values == values[..., :1]).all()
            (label,) = result["value"]["brushlabels"]
            masks.append((CLASSES.index(label), values[..., 3] > 0))
        np.testing.assert_array_equal(paint(labels, masks), things(labels))


@pytest.mark.parametrize("decode", [*brush_decoders()], ids=lambda function: function.__module__)
def test_long_and_odd_runs_of_the_brush(decode):
    # Runs of a pixel, around every size of lengths, and longer than the longest.
    lengths = [1, 2, 3, 16, 17, 256, 257, 16384, 16385, 40000, 1]
    mask = np.repeat(np.arange(len(lengths)) % 2 == 0, lengths)[None]
    np.testing.assert_array_equal(np.array(decode(encode_rle(mask)))[3::4] > 0, mask[0])


def read_cvat(folder):
    """CVAT's documented XML format: runs of zeros and ones in turn inside the box."""
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    for image in root.iter("image"):
        masks = []
        for element in image.iter("mask"):
            left, top, width, height = (
                int(element.get(key)) for key in ("left", "top", "width", "height")
            )
            runs = [int(run) for run in element.get("rle").split(",")]
            values = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
            mask = np.zeros((int(image.get("height")), int(image.get("width"))), bool)
            mask[top : top + height, left : left + width] = values
            masks.append((CLASSES.index(element.get("label")), mask))
        yield Path(image.get("name")).with_suffix("").as_posix(), masks


def read_cvat_by_datumaro(folder):
    from datumaro.components.dataset import Dataset

    dataset = Dataset.import_from(str(folder), "cvat")
    labels = next(iter(dataset.categories().values()))
    for item in dataset:
        masks = [
            (CLASSES.index(labels[found.label].name), found.image.astype(bool))
            for found in item.annotations
        ]
        yield item.id, masks


@pytest.mark.parametrize("read", [read_cvat, read_cvat_by_datumaro])
def test_cvat(run, export, read):
    if read is read_cvat_by_datumaro:
        pytest.importorskip("datumaro")
    folder = export("cvat", separate_regions=True)
    # Datumaro wants to see the images.
    shutil.copytree(run.parent / "photos", folder / "images")
    found = dict(read(folder))
    assert set(found) == set(LABELS)
    assert len(found["a"]) > 6
    for name, labels in LABELS.items():
        np.testing.assert_array_equal(paint(labels, found[name]), things(labels))


def test_supervision_reads_coco_and_yolo(run, tmp_path):
    supervision = pytest.importorskip("supervision")
    shutil.copytree(run.parent, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "out"
    export_run(out, ["coco", "yolo-seg"], simplify=0)
    dataset = supervision.DetectionDataset
    coco = dataset.from_coco(str(tmp_path / "photos"), str(out / "coco/annotations.json"))
    folder = out / "yolo-seg"
    yolo = dataset.from_yolo(
        *(str(folder / name) for name in ("images", "labels", "data.yaml")), force_masks=True
    )
    for read in (coco, yolo):
        assert read.classes == CLASSES[1:]
        found = {Path(path).stem: detections for path, _, detections in read}
        labels, detections = LABELS["a"], found["a"]
        masks = zip(detections.class_id + 1, detections.mask)
        np.testing.assert_array_equal(paint(labels, masks), things(labels))
        assert len(found["empty"]) == 0


def test_ultralytics_reads_yolo(export):
    pytest.importorskip("ultralytics")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import polygon2mask

    folder = export("yolo-seg", simplify=0)
    data = {**yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8")), "channels": 3}
    read = YOLODataset(str(folder / data["train"]), data=data, task="segment", augment=False)
    # It leaves out the images of less than ten pixels.
    found = {Path(entry["im_file"]).stem: entry for entry in read.labels}
    assert set(found) == {"a", "b.c"}
    for name, entry in found.items():
        labels = LABELS["a" if name == "a" else "sub/b.c"]
        classes = entry["cls"][:, 0].astype(int) + 1
        masks = [
            polygon2mask(labels.shape, [(polygon * labels.shape[::-1]).ravel()]).astype(bool)
            for polygon in entry["segments"]
        ]
        np.testing.assert_array_equal(paint(labels, zip(classes, masks)), things(labels))


def test_small_regions_stay_unlabeled(export):
    masks = dict(read_cvat(export("cvat", min_area=3, separate_regions=True)))["a"]
    expected = things(LABELS["a"]).copy()
    expected[2, 33] = expected[5, 33:35] = -1
    np.testing.assert_array_equal(paint(expected, masks), expected)


def test_files_of_others_stay_and_a_second_export_replaces_the_first(run, tmp_path):
    shutil.copytree(run, tmp_path / "out")
    out = tmp_path / "out"
    own = out / "coco" / "annotations.json"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(FileExistsError, match=r"coco would be overwritten.*another --output"):
        export_run(out, ["png", "coco"])
    assert own.read_text() == "mine"
    assert not (out / "png").exists()
    export_run(out, ["png"])
    (out / "png/masks/old.png").touch()
    export_run(out, ["png"], min_area=5)
    assert not (out / "png/masks/old.png").exists()
    assert json.loads((out / "png/export.json").read_text())["min_area"] == 5
    with pytest.raises(ValueError, match="'voc'; there are coco, yolo-seg, png"):
        check_export(out, ["voc"])
    with pytest.raises(ValueError, match="min_area must be at least 0, got -1"):
        export_run(out, ["png"], min_area=-1)


def test_two_exports_at_once_are_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "out")
    with lock_file(tmp_path / "out/.export.lock", "here"), pytest.raises(BlockingIOError):
        export_run(tmp_path / "out", ["png"])


def test_the_command_names_every_format():
    from escnet_d2.commands import autolabel

    assert tuple(FORMATS) == autolabel.FORMATS
