"""Every registration: CAT-Seg's and SED's names, and those of SAN, FC-CLIP and MESS."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from escnet_d2.config import get_cfg
from escnet_d2.data import build_test_loader, dataset_status
from escnet_d2.data.class_lists import read_class_list
from escnet_d2.data.datasets import all_datasets, register_builtin
from escnet_d2.evaluation import SemSegEvaluator

VOC, PC = "VOCdevkit/VOC2012", "VOCdevkit/VOC2010"
ADE, ADE_FULL = "ADEChallengeData2016", "ADE20K_2021_17_01"
FC_VOC, FC_PC = "pascal_voc_d2", "pascal_ctx_d2"
A150, PAS20 = "ade20k_150_test_sem_seg", "voc_2012_test_sem_seg"
C171, PC59 = "coco_2017_test_stuff_all_sem_seg", "context_59_test_sem_seg"
WITH_BACKGROUND = "voc_2012_test_background_sem_seg"
BENCHMARKS = f"""
coco_2017_train_stuff_all_sem_seg coco-stuff/images/train2017 coco-stuff/annotations_detectron2/train2017 coco 255 118287
coco_2017_test_stuff_all_sem_seg coco-stuff/images/val2017 coco-stuff/annotations_detectron2/val2017 coco 255 5000
{A150} {ADE}/images/validation {ADE}/annotations_detectron2/validation ade150 255 2000
ade20k_full_sem_seg_freq_val_all {ADE_FULL}/images_detectron2/validation {ADE_FULL}/annotations_detectron2/validation ade847 65535 2000
context_59_test_sem_seg {PC}/JPEGImages {PC}/annotations_detectron2/pc59_val pc59 255 5104
context_459_test_sem_seg {PC}/JPEGImages {PC}/annotations_detectron2/pc459_val pc459 459 5104
{PAS20} {VOC}/JPEGImages {VOC}/annotations_detectron2/val voc20 255 1449
{WITH_BACKGROUND} {VOC}/JPEGImages {VOC}/annotations_detectron2_bg/val - 255 1449
"""  # noqa: E501
ALIASES = f"""
coco_2017_train_stuff_sem_seg coco/train2017 coco/stuffthingmaps_detectron2/train2017 coco 255 118287
coco_2017_test_stuff_sem_seg coco/val2017 coco/stuffthingmaps_detectron2/val2017 coco 255 5000
ade20k_full_sem_seg_val {ADE_FULL}/images_detectron2/validation {ADE_FULL}/annotations_detectron2/validation ade847 65535 2000
pcontext_sem_seg_val pcontext/val/image pcontext/val/label pc59 255 5104
pcontext_full_sem_seg_val pcontext_full/val/image pcontext_full/val/label pc459_spaced 65535 5104
voc_sem_seg_val VOC2012/JPEGImages VOC2012/annotations_detectron2/val voc20_san 255 1449
openvocab_coco_2017_train_stuff_sem_seg coco/train2017 coco/stuffthingmaps_detectron2/train2017 coco_fcclip 255 118287
openvocab_coco_2017_test_stuff_sem_seg coco/val2017 coco/stuffthingmaps_detectron2/val2017 coco_fcclip 255 5000
openvocab_ade20k_sem_seg_val {ADE}/images/validation {ADE}/annotations_detectron2/validation ade150_fcclip 255 2000
openvocab_ade20k_full_sem_seg_val {ADE_FULL}/images_detectron2/validation {ADE_FULL}/annotations_detectron2/validation ade847_fcclip 65535 2000
openvocab_pascal_ctx59_sem_seg_val {FC_PC}/images/validation {FC_PC}/annotations_ctx59/validation pc59_fcclip 255 5104
openvocab_pascal_ctx459_sem_seg_val {FC_PC}/images/validation {FC_PC}/annotations_ctx459/validation pc459_fcclip 65535 5104
openvocab_pascal20_sem_seg_val {FC_VOC}/images/validation {FC_VOC}/annotations_pascal20/validation voc20_fcclip 255 1449
openvocab_pascal21_sem_seg_val {FC_VOC}/images/validation {FC_VOC}/annotations_pascal21/validation voc21_fcclip 255 1449
pascal_context_59_sem_seg_val {PC}/JPEGImages {PC}/annotations_detectron2/pc59_val pc59 255 5104
pascal_context_459_sem_seg_val {PC}/JPEGImages {PC}/annotations_detectron2/pc459_val pc459 65535 5104
voc_2012_sem_seg_val {VOC}/JPEGImages {VOC}/annotations_detectron2/val voc20 255 1449
voc_2012_sem_seg_val_bg {VOC}/JPEGImages {VOC}/annotations_detectron2/val_bg - 255 1449
"""  # noqa: E501
# Name: images, labels, class list, unlabeled value, images in a complete copy.
BENCHMARKS, ALIASES = (
    {name: facts for name, *facts in map(str.split, table.split("\n")[1:-1])}
    for table in (BENCHMARKS, ALIASES)
)
REGISTRATIONS = {**BENCHMARKS, **ALIASES}
SIXTEEN_BITS = ("459", "full")


def put_pair(root, images, labels, values, *, sixteen_bits=False, stem="a"):
    values = np.asarray(values, np.uint16 if sixteen_bits else np.uint8)
    for folder in (images, labels):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", values.shape[::-1], (90, 60, 30)).save(root / images / f"{stem}.jpg")
    suffix = "tif" if sixteen_bits else "png"
    Image.fromarray(values).save(root / labels / f"{stem}.{suffix}")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of the data sets."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", sorted(REGISTRATIONS))
def test_registrations_find_their_files_below_the_root_of_the_moment(name, root, caplog):
    images, labels, class_list, ignore_label, expected = REGISTRATIONS[name]
    sixteen_bits = any(part in name for part in SIXTEEN_BITS)
    for stem in "ba":
        put_pair(root, images, labels, [[0, 1]], sixteen_bits=sixteen_bits, stem=stem)
    # Files of other types belong to something else.
    put_pair(root, images, labels, [[0]], sixteen_bits=not sixteen_bits, stem="c")
    put_pair(root, images, labels, [[0]], sixteen_bits=sixteen_bits, stem="d")
    (root / images / "d.jpg").rename(root / images / "d.bmp")
    samples = DatasetCatalog.get(name)
    suffix = "tif" if sixteen_bits else "png"
    assert samples == [
        {
            "file_name": str(root / images / f"{stem}.jpg"),
            "sem_seg_file_name": str(root / labels / f"{stem}.{suffix}"),
            "dataset_name": name,
        }
        for stem in "ab"
    ]
    assert f"has 2 labeled images in {root / labels}, expected {expected}" in caplog.text
    metadata = MetadataCatalog.get(name)
    assert metadata.image_root == str(root / images)
    assert metadata.sem_seg_root == metadata.seg_seg_root == str(root / labels)
    assert metadata.ignore_label == int(ignore_label)
    assert metadata.expected_images == int(expected)
    with_background = [*read_class_list("voc20"), "background"]
    classes = with_background if class_list == "-" else list(read_class_list(class_list))
    assert metadata.stuff_classes == classes
    is_background = name == WITH_BACKGROUND
    assert metadata.evaluator_type == ("sem_seg_background" if is_background else "sem_seg")
    # MESS's copy with background has one prompt for it, PAS-20b 39.
    assert (metadata.get("vocabulary_to_class") is not None) == is_background


def test_images_of_other_splits_are_expected_but_lone_labels_are_reported(root, caplog):
    images, labels, *_ = BENCHMARKS[PAS20]
    for stem in ("a", "lone", "other_split"):
        put_pair(root, images, labels, [[0]], stem=stem)
    (root / images / "lone.jpg").unlink()
    (root / labels / "other_split.png").unlink()
    assert len(DatasetCatalog.get(PAS20)) == 1
    assert "lone.png" in caplog.text
    assert "other_split.jpg" not in caplog.text


def test_root_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    put_pair(tmp_path / "data", *BENCHMARKS[A150][:2], [[0]])
    assert len(DatasetCatalog.get(A150)) == 1


def test_missing_folder_names_path_variable_and_instructions(tmp_path, monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "datasets" / ADE / "images" / "validation"
    with pytest.raises(FileNotFoundError) as caught:
        DatasetCatalog.get(A150)
    for part in (str(folder), "DETECTRON2_DATASETS", "datasets/README.md"):
        assert part in str(caught.value)


def test_empty_folder_is_an_error(root):
    for folder in BENCHMARKS[A150][:2]:
        (root / folder).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"ade20k_150_test_sem_seg.*has no \.jpg"):
        DatasetCatalog.get(A150)


def test_registering_again_is_silent(caplog):
    register_builtin()
    assert not caplog.records


@pytest.fixture
def unregistered():
    """Forgets a data set for a test, and returns its metadata."""
    before = {}

    def forget(name):
        before[name] = DatasetCatalog[name], MetadataCatalog[name]
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
        return before[name][1]

    yield forget
    for name, (dataset, metadata) in before.items():
        DatasetCatalog[name], MetadataCatalog[name] = dataset, metadata


def test_same_data_set_of_another_package_is_kept_and_completed(caplog, unregistered):
    metadata = unregistered(WITH_BACKGROUND)
    DatasetCatalog.register(WITH_BACKGROUND, list)
    # As the other releases write it: with the misspelled key and a stray space.
    MetadataCatalog.get(WITH_BACKGROUND).set(
        stuff_classes=[*metadata.stuff_classes[:-1], "background "],
        ignore_label=255,
        seg_seg_root="there",
    )
    register_builtin()
    assert not caplog.records
    assert DatasetCatalog[WITH_BACKGROUND] is list
    assert MetadataCatalog.get(WITH_BACKGROUND).seg_seg_root == "there"
    assert len(MetadataCatalog.get(WITH_BACKGROUND).vocabulary_to_class) == 59


def test_other_data_set_under_the_same_name_is_reported(caplog, unregistered):
    name = "context_459_test_sem_seg"
    metadata = unregistered(name)
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(stuff_classes=metadata.stuff_classes, ignore_label=65535)
    register_builtin()
    assert name in caplog.text
    assert "ignore_label" in caplog.text
    assert "classes" not in caplog.text
    assert not hasattr(MetadataCatalog.get(name), "expected_images")


def test_status_tells_missing_and_incomplete(tmp_path):
    for stem in "ab":
        put_pair(tmp_path, *BENCHMARKS[A150][:2], [[0]], stem=stem)
    status = dataset_status(tmp_path)
    assert list(status) == list(BENCHMARKS) == list(all_datasets())[:8]
    assert all(problem for _, problem in status.values())
    assert status[A150] == (2, "2 labeled images, expected 2000")
    found, problem = status[PAS20]
    assert found == 0
    assert problem.startswith("missing: ")
    assert str(tmp_path / VOC / "JPEGImages") in problem


def test_status_of_a_complete_data_set(tmp_path):
    images, labels, *_ = BENCHMARKS[PAS20]
    for folder, suffix in ((images, "jpg"), (labels, "png")):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(1449):
            (tmp_path / folder / f"{index}.{suffix}").touch()
    assert dataset_status(tmp_path)[PAS20] == (1449, "")


def test_detectron2s_own_ade20k_is_left_alone_with_the_listed_names():
    names = MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes
    assert [", ".join(p.strip() for p in name.split(",")) for name in names] == list(
        read_class_list("ade150_detectron2")
    )


@pytest.mark.parametrize(
    ("name", "images", "labels"),
    [
        (C171, "coco/val2017", "coco/stuffthingmaps_detectron2/val2017"),
        (PC59, "pcontext/val/image", "pcontext/val/label"),
        (PC59, f"{FC_PC}/images/validation", f"{FC_PC}/annotations_ctx59/validation"),
        ("pcontext_sem_seg_val", f"{PC}/JPEGImages", f"{PC}/annotations_detectron2/pc59_val"),
        (PAS20, "VOC2012/JPEGImages", "VOC2012/annotations_detectron2/val"),
        (WITH_BACKGROUND, f"{VOC}/JPEGImages", f"{VOC}/annotations_detectron2/val_bg"),
    ],
)
def test_labels_in_another_releases_folders_are_found(root, name, images, labels):
    # A complete layout wins over half of the first one.
    prepared = all_datasets()[name].prepared_folders()
    prepared[0].mkdir(parents=True)
    put_pair(root, images, labels, [[0]])
    assert DatasetCatalog.get(name)[0]["sem_seg_file_name"] == str(root / labels / "a.png")
    assert MetadataCatalog.get(name).sem_seg_root == str(root / labels)
    # What is prepared goes to the first layout all the same.
    assert all_datasets()[name].prepared_folders() == prepared != (root / images, root / labels)


def test_coco_predictions_carry_cocos_ids():
    ids = MetadataCatalog.get(C171).stuff_dataset_id_to_contiguous_id
    names = read_class_list("coco")
    assert len(ids) == 171
    assert [names[ids[coco_id]] for coco_id in (1, 13, 90, 92, 182)] == [
        *("person", "stop sign", "toothbrush", "banner", "wood")
    ]


@pytest.mark.parametrize("name", sorted(all_datasets()))
def test_every_registration_loads_maps_and_evaluates(name, root):
    dataset = all_datasets()[name]
    if DatasetCatalog[name] != dataset:
        pytest.skip("registered by another package")
    num_classes = len(dataset.classes)
    sixteen_bits = dataset.label_suffixes == (".tif",)
    # Class 1 and the last one, then all that releases write for unlabeled pixels.
    strays = [dataset.ignore_label, num_classes, 65535 if sixteen_bits else 255]
    row = [1, 1, num_classes - 1, *strays]
    put_pair(root, *dataset.prepared_folders(), [row, row], sixteen_bits=sixteen_bits)
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TEST = 8
    ((sample,),) = build_test_loader(cfg, name)
    assert sample["image"].shape[0] == 3
    assert sample["vocabulary"].num_classes == num_classes
    second = dataset.classes[1]
    assert sample["vocabulary"].class_names[1] in (second, second.split(", ")[0])
    # The first pixel of class 1 is right, the second is called the last class.
    prediction = torch.tensor([[1, num_classes - 1, num_classes - 1, 0, 0, 0]] * 2)
    evaluator = SemSegEvaluator(name, output_dir=None)
    evaluator.process([sample], [{"label_map": prediction}])
    scores = evaluator.evaluate()["sem_seg"]
    assert scores["num_classes"] == 2
    assert scores["mIoU"] == pytest.approx(50.0)
    assert scores["pACC"] == pytest.approx(100 * 2 / 3)
