"""Label maps from files in the owners' formats, with values worked out by hand."""

import json
from itertools import groupby

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from escnet_d2.data.class_lists import read_class_list
from escnet_d2.data.prepare import PREPARATIONS, LabelWriter
from escnet_d2.data.prepare.ade20k_full import resize_nearest, target_size
from escnet_d2.io import read_label_map, write_json, write_text

ADE = "ADE20K_2021_17_01"
VOC = "VOCdevkit/VOC2012"
PC = "VOCdevkit/VOC2010"
PANOPTIC = "coco/annotations/panoptic_val2017.json"


def prepare(name, root):
    return PREPARATIONS[name].run(LabelWriter(root))


def written(root, file):
    """Values and Pillow's mode."""
    with Image.open(root / file) as image:
        return read_label_map(root / file).tolist(), image.mode


# COCO


def test_coco_stuff(tmp_path, put_image):
    # All ids that COCO-Stuff knows; its unused ids and 255 are unlabeled.
    put_image(tmp_path / "coco-stuff/annotations/val2017/a.png", [[*range(182), 255]])
    put_image(tmp_path / "coco-stuff/annotations/val2017/a_labelTrainIds.png", [[0]])
    assert prepare("coco_stuff", tmp_path) == ["coco_2017_test_stuff_all_sem_seg"]
    folder = tmp_path / "coco-stuff/annotations_detectron2/val2017"
    assert [file.name for file in folder.iterdir()] == ["a.png"]
    (labels,), mode = written(folder, "a.png")
    assert mode == "L"
    assert [index for index, label in enumerate(labels) if label == 255] == [
        *(11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90),
        182,
    ]
    assert [label for label in labels if label != 255] == list(range(171))
    names = read_class_list("coco")
    # Ids of COCO's own category list, less one: 1 person, 13 stop sign, 92 banner, 182 wood.
    assert [names[labels[index - 1]] for index in (1, 13, 92, 182)] == [
        *("person", "stop sign", "banner", "wood")
    ]


def test_other_stuff_maps_are_refused_until_they_are_replaced(tmp_path, put_image):
    source = tmp_path / "coco-stuff/annotations/train2017/a.png"
    put_image(source, [[0, 183]])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a\.png has the value 183.*stuffthingmaps_trainval"):
            prepare("coco_stuff", tmp_path)
    put_image(source, [[0, 181]])
    prepare("coco_stuff", tmp_path)
    labels = read_label_map(tmp_path / "coco-stuff/annotations_detectron2/train2017/a.png")
    assert labels.tolist() == [[0, 170]]


def test_coco_panoptic(tmp_path, put_image):
    # Ids 1 + 256 * 2 = 513 (person), 65536 * 3 (wall-other-merged, the 132nd class).
    put_image(tmp_path / "coco/panoptic_val2017/x.png", [[[1, 2, 0], [0, 0, 3], [0, 0, 0]]])
    segments = [{"id": 513, "category_id": 1}, {"id": 3 * 65536, "category_id": 199}]
    annotations = [{"file_name": "x.png", "segments_info": segments}]
    write_json(tmp_path / PANOPTIC, {"annotations": annotations})
    assert prepare("coco_panoptic", tmp_path) == ["coco_2017_val_panoptic_sem_seg"]
    assert written(tmp_path, "coco/panoptic_semseg_val2017/x.png") == ([[0, 131, 255]], "L")
    assert read_class_list("coco_panoptic")[131] == "wall-other-merged"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"annotations": [{"file_name": "x.png", "segments_info": []}]}',
            r"x\.png has segments without annotation: \[7\]",
        ),
        *(
            (content, r"panoptic_val2017\.json is not a file of COCO")
            for content in ("{", "{}", "[]", '{"annotations": [{}]}')
        ),
    ],
)
def test_panoptic_annotations_that_do_not_fit(tmp_path, content, message, put_image):
    put_image(tmp_path / "coco/panoptic_val2017/x.png", [[[7, 0, 0]]])
    write_text(tmp_path / PANOPTIC, content)
    with pytest.raises(ValueError, match=message):
        prepare("coco_panoptic", tmp_path)


def test_real_panoptic_sample(shared_data, tmp_path):
    sample = shared_data / "coco_panoptic_sample/sample_data"
    content = json.loads((sample / "panoptic_examples.json").read_text())
    write_json(tmp_path / PANOPTIC, content)
    (tmp_path / "coco/panoptic_val2017").symlink_to(sample / "panoptic_examples")
    prepare("coco_panoptic", tmp_path)
    categories = json.loads((sample.parent / "panoptic_coco_categories.json").read_text())
    index_of = {category["id"]: index for index, category in enumerate(categories)}
    assert [category["name"] for category in categories] == list(read_class_list("coco_panoptic"))
    for entry in content["annotations"]:
        labels = read_label_map(tmp_path / "coco/panoptic_semseg_val2017" / entry["file_name"])
        areas = {}
        for segment in entry["segments_info"]:
            index = index_of[segment["category_id"]]
            areas[index] = areas.get(index, 0) + segment["area"]
        values, counts = np.unique(labels, return_counts=True)
        assert {v: c for v, c in zip(values.tolist(), counts.tolist()) if v != 255} == areas


# ADE20K


def test_ade20k_150(tmp_path, put_image):
    put_image(tmp_path / "ADEChallengeData2016/annotations/validation/a.png", [[0, 1, 2, 150]])
    prepare("ade20k_150", tmp_path)
    target = "ADEChallengeData2016/annotations_detectron2/validation/a.png"
    assert written(tmp_path, target) == ([[255, 0, 1, 149]], "L")


@pytest.fixture
def put_ade_image(tmp_path, put_image):
    """Writes an image whose ``_seg.png`` codes ``objects``, with R beyond the multiple of ten."""

    def put(name, objects, *, folder="images/ADE/validation/street", blue=0):
        objects = np.asarray(objects)
        blue = np.full_like(objects, blue)
        colors = np.stack([objects // 256 * 10 + 3, objects % 256, blue], axis=2)
        put_image(tmp_path / ADE / folder / f"{name}_seg.png", colors)
        gray = np.linspace(0, 255, objects.size).reshape(objects.shape)
        put_image(tmp_path / ADE / folder / f"{name}.jpg", np.stack([gray] * 3, axis=2))

    return put


def test_ade20k_847(tmp_path, put_ade_image):
    # wall is object 2978 = 11 * 256 + 162, building 312 = 256 + 56; 1 is not a class.
    put_ade_image("ADE_val_00000001", [[2978, 312, 1, 0]], blue=9)
    put_ade_image("ADE_val_00000003", [[2420]], folder="images/ADE/validation/a/b")
    put_ade_image("ADE_train_00000002", [[2978]], folder="images/ADE/training/street")
    prepare("ade20k_847", tmp_path)
    labels = f"{ADE}/annotations_detectron2/validation"
    assert sorted(file.name for file in (tmp_path / labels).iterdir()) == [
        *("ADE_val_00000001.tif", "ADE_val_00000003.tif")
    ]
    values, mode = written(tmp_path, f"{labels}/ADE_val_00000001.tif")
    assert (values, mode) == ([[0, 1, 65535, 65535]], "I;16")
    names = read_class_list("ade847")
    assert names[:2] == ("wall", "building, edifice")
    assert names[written(tmp_path, f"{labels}/ADE_val_00000003.tif")[0][0][0]] == "sky"
    image = tmp_path / ADE / "images_detectron2/validation/ADE_val_00000001.jpg"
    assert Image.open(image).size == (4, 1)


def test_ade20k_847_makes_large_images_smaller(tmp_path, put_ade_image):
    # Left half wall, right half sky; the shorter side is 600.
    objects = np.full((600, 900), 2978)
    objects[:, 450:] = 2420
    put_ade_image("ADE_val_00000001", objects)
    prepare("ade20k_847", tmp_path)
    labels = read_label_map(
        tmp_path / ADE / "annotations_detectron2/validation/ADE_val_00000001.tif"
    )
    assert labels.shape == (512, 768)
    assert (labels[:, :384] == 0).all()
    assert (labels[:, 384:] == read_class_list("ade847").index("sky")).all()
    with Image.open(tmp_path / ADE / "images_detectron2/validation/ADE_val_00000001.jpg") as image:
        assert image.size == (768, 512)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        *[((512, 2000), (512, 2000)), ((513, 513), (512, 512))],
        *[((683, 1024), (512, 768)), ((1000, 601), (852, 512))],
    ],
)
def test_target_size(size, expected):
    assert target_size(*size) == expected


def test_resize_nearest_takes_the_floor():
    # 5 columns to 3: floor(0, 1.67, 3.33).
    assert resize_nearest(np.arange(5)[None], (1, 3)).tolist() == [[0, 1, 3]]


# PASCAL VOC


@pytest.mark.parametrize("source", ["SegmentationClass", "SegmentationClassAug"])
@pytest.mark.parametrize("palette", [None, [255 - i % 256 for i in range(768)]])
def test_voc(tmp_path, source, palette, put_image):
    folder = tmp_path / VOC
    put_image(folder / source / "a.png", [[0, 1, 20, 255]], palette=palette)
    put_image(folder / source / "of_another_split.png", [[0]])
    write_text(folder / "ImageSets/Segmentation/val.txt", "a\n")
    prepare("voc", tmp_path)
    for target, expected in (
        ("annotations_detectron2/val", [255, 0, 19, 255]),
        ("annotations_detectron2_bg/val", [20, 0, 19, 255]),
    ):
        assert [file.name for file in (folder / target).iterdir()] == ["a.png"]
        assert written(folder, f"{target}/a.png") == ([expected], "L")


def test_real_voc_sample(shared_data, tmp_path):
    sample, folder = shared_data / "voc_sample" / VOC, tmp_path / VOC
    stems = sorted(file.stem for file in (sample / "SegmentationClass").iterdir())
    write_text(folder / "ImageSets/Segmentation/val.txt", "\n".join(stems))
    (folder / "SegmentationClass").symlink_to(sample / "SegmentationClass")
    prepare("voc", tmp_path)
    seen = set()
    for stem in stems:
        indices = np.asarray(Image.open(sample / f"SegmentationClass/{stem}.png")).astype(int)
        seen |= set(indices.flatten().tolist())
        for suffix, background in (("", 255), ("_bg", 20)):
            expected = np.where(indices == 255, 255, indices - 1)
            expected[indices == 0] = background
            target = folder / f"annotations_detectron2{suffix}/val/{stem}.png"
            assert (read_label_map(target) == expected).all()
    assert {0, 15, 255} <= seen <= {*range(21), 255}


# PASCAL-Context


def run_lengths(rows, *, compressed=True):
    if not compressed:
        # Column by column, zeros first.
        flat = np.asarray(rows).flatten(order="F").tolist()
        counts = [len(list(run)) for _, run in groupby(flat)]
        return {"size": list(np.shape(rows)), "counts": [0, *counts] if flat[0] else counts}
    encoded = coco_mask.encode(np.asfortranarray(rows, dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def put_detail(root, annotations):
    size = {"height": 1, "width": 4}
    images = [
        {"image_id": 5, "file_name": "a.jpg", "phase": "val", **size},
        {"image_id": 6, "file_name": "b.jpg", "phase": "train", **size},
    ]
    content = {"images": images, "annos_segmentation": annotations}
    write_json(root / PC / "trainval_merged.json", content)


@pytest.mark.parametrize("compressed", [True, False])
def test_pascal_context_59(tmp_path, compressed):
    def mask(image, category, row):
        runs = run_lengths([row], compressed=compressed)
        return {"image_id": image, "category_id": category, "segmentation": runs}

    # 2 is aeroplane, 458 wood; 7 is none of the 59; later masks cover earlier ones.
    masks = [mask(5, 2, [1, 1, 1, 0]), mask(6, 2, [1, 1, 1, 1])]
    masks += [mask(5, 458, [0, 1, 0, 0]), mask(5, 7, [0, 0, 1, 0])]
    put_detail(tmp_path, masks)
    prepare("pascal_context_59", tmp_path)
    folder = tmp_path / PC / "annotations_detectron2/pc59_val"
    assert [file.name for file in folder.iterdir()] == ["a.png"]
    assert written(folder, "a.png") == ([[0, 58, 255, 255]], "L")
    names = read_class_list("pc59")
    assert (names[0], names[58]) == ("aeroplane", "wood")


def test_pascal_context_59_refuses_bare_images_and_other_json(tmp_path):
    put_detail(tmp_path, [])
    with pytest.raises(ValueError, match=r"1 images without annotation, such as a\.jpg"):
        prepare("pascal_context_59", tmp_path)
    (tmp_path / PC / "trainval_merged.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not a trainval_merged\.json"):
        prepare("pascal_context_59", tmp_path)


def put_mat(root, name, values, dtype=np.uint16):
    scipy_io = pytest.importorskip("scipy.io")
    folder = root / PC / "trainval"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"LabelMap": np.asarray(values, dtype)}
    scipy_io.savemat(folder / f"{name}.mat", content, do_compression=True)


def test_pascal_context_459(tmp_path):
    put_mat(tmp_path, "2008_000002", [[0, 1, 256, 257, 459, 460]])
    put_mat(tmp_path, "2008_of_another_split", [[1]])
    (tmp_path / PC / "pascalcontext_val.txt").write_text("2008_000002\n")
    prepare("pascal_context_459", tmp_path)
    folder = tmp_path / PC / "annotations_detectron2/pc459_val"
    assert [file.name for file in folder.iterdir()] == ["2008_000002.tif"]
    expected = [[65535, 0, 255, 256, 458, 459]]
    assert written(folder, "2008_000002.tif") == (expected, "I;16")


def test_pascal_context_459_uses_the_packaged_list(tmp_path, caplog):
    # Small labels in a byte: 0 must not become 255, which is a class.
    put_mat(tmp_path, "2008_000002", [[0, 5]], np.uint8)
    prepare("pascal_context_459", tmp_path)
    assert "5103 of 5104 files are missing, such as" in caplog.text
    target = f"{PC}/annotations_detectron2/pc459_val/2008_000002.tif"
    assert written(tmp_path, target) == ([[65535, 4]], "I;16")


def test_damaged_mat(tmp_path):
    put_mat(tmp_path, "2008_000002", [[0]])
    file = tmp_path / PC / "trainval/2008_000002.mat"
    file.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(ValueError, match=r"2008_000002\.mat"):
        prepare("pascal_context_459", tmp_path)
