"""Masks that come with an image: files, label maps, and the way through the mapper."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from escnet_d2.data import SemanticDatasetMapper
from escnet_d2.data.region_masks import (
    RegionMasks,
    connected_regions,
    read_masks,
    split_regions,
    write_masks,
)
from escnet_d2.engine import OpenVocabPredictor, load_config

MASKS = np.zeros((3, 20, 30), dtype=bool)
MASKS[0, 2:9, 3:12], MASKS[1, 5:20, 8:30] = True, True


def test_masks_come_back_as_they_were_written(tmp_path):
    file = tmp_path / "a.json"
    write_masks(file, MASKS, image_name="a.jpg")
    assert np.array_equal(read_masks(file, (20, 30), image_name="a.jpg"), MASKS)
    assert json.loads(file.read_text())["image"] == {
        "file_name": "a.jpg", "height": 20, "width": 30,
    }  # fmt: skip
    write_masks(file, MASKS[:0], image_name="a.jpg")
    assert read_masks(file, (20, 30), image_name="a.jpg").shape == (0, 20, 30)


def test_lists_of_sams_generator_and_uncompressed_codes_are_read(tmp_path):
    compressed = coco_mask.encode(np.asfortranarray(MASKS[0].astype(np.uint8)))
    compressed["counts"] = compressed["counts"].decode()
    # Columns: 3 x 20 + 2 zeros, then nine times 7 ones and 13 zeros.
    runs = [62, *[7, 13] * 8, 7, 600 - 62 - 20 * 8 - 7]
    records = [
        {"segmentation": compressed, "predicted_iou": 0.9},
        {"segmentation": {"size": [20, 30], "counts": runs}},
    ]
    file = tmp_path / "a.json"
    file.write_text(json.dumps(records))
    found = read_masks(file, (20, 30), image_name="whatever.png")
    assert np.array_equal(found[0], MASKS[0]) and np.array_equal(found[1], MASKS[0])


def test_region_numbers_are_read_gray_or_as_cocos_panoptic_colors(tmp_path):
    ids = np.zeros((4, 6), np.int64)
    ids[:2, :3], ids[2:, 4:] = 7, 7 + 256 * 300
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray((ids > 0).astype(np.uint8) * 5).save(tmp_path / "gray.png")
    masks = read_masks(tmp_path / "rgb.png", (4, 6), image_name="x.jpg")
    assert np.array_equal(masks, [ids == 7, ids == 7 + 256 * 300])
    masks = read_masks(tmp_path / "gray.png", (4, 6), image_name="x.jpg")
    assert np.array_equal(masks, [ids > 0])


def test_regions_are_connected_and_of_one_label():
    labels = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [2, 2, 0, 0]])
    regions = connected_regions(labels)
    assert sorted(np.unique(regions)) == [0, 1, 2, 3]
    masks = split_regions(regions)
    assert masks.sum(axis=0).max() == 1 and masks.any(axis=0).all()
    assert sorted(mask.sum() for mask in masks) == [2, 2, 2, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no file of masks: JSONDecodeError"),
        ('{"masks": []}', "is no file of masks: KeyError: 'annotations'"),
        ("[1]", "is no file of masks: TypeError"),
        ('[{"segmentation": {"size": [2, 2], "counts": [4]}}]', "masks of 2 x 2 pixels, but"),
        (
            '{"image": {"file_name": "other.jpg"}, "annotations": []}',
            "it has the masks of other.jpg, not of photo.jpg",
        ),
    ],
)
def test_wrong_files_are_named(tmp_path, content, message):
    (tmp_path / "photo.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        RegionMasks(tmp_path).read("pictures/photo.jpg", (20, 30), None)
    assert "photo.json" in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no masks of a/photo.jpg: neither .*photo.json"):
        RegionMasks(tmp_path).read("a/photo.jpg", (2, 2), None)
    with pytest.raises(ValueError, match=r"a/photo.jpg has no label map, which .* 'truth' needs"):
        RegionMasks(None).read("a/photo.jpg", (2, 2), None)
    (tmp_path / "photo.png").write_text("no image")
    with pytest.raises(ValueError, match="photo.png is no file of masks"):
        RegionMasks(tmp_path).read("photo.jpg", (2, 2), None)
    cfg = load_config("sam_mi_tiny", ["MODEL.MASKS.SOURCE", "file", "MODEL.MASKS.DIR", "nowhere"])
    with pytest.raises(
        FileNotFoundError, match="MODEL.MASKS.DIR must be a folder .* got 'nowhere'"
    ):
        RegionMasks.from_config(cfg)


def test_other_methods_and_sources_read_no_masks():
    assert RegionMasks.from_config(load_config("sam_mi_tiny")) is None
    assert (
        RegionMasks.from_config(load_config("cat_seg_tiny", ["MODEL.MASKS.SOURCE", "file"])) is None
    )


@pytest.mark.parametrize("source", ["file", "truth"])
def test_masks_are_augmented_with_their_image(prepared_folder, tmp_path, source):
    root = prepared_folder(tmp_path / "photos", "photos", train=1, val=1)
    masks = tmp_path / "masks"
    masks.mkdir()
    labels = np.asarray(Image.open(root / "labels/train/0.png"))
    write_masks(masks / "0.json", split_regions(labels), image_name="0.png")
    opts = ["MODEL.MASKS.SOURCE", source, "MODEL.MASKS.DIR", str(masks),
            "DATASETS.FOLDERS", (str(root),), "DATASETS.TRAIN", ("photos_train",),
            "INPUT.MIN_SIZE_TRAIN", (50,), "INPUT.CROP.SIZE", [64, 40],
            "INPUT.COLOR_AUG_SSD", False]  # fmt: skip
    cfg = load_config("sam_mi_tiny", opts)
    mapper = SemanticDatasetMapper(cfg, is_train=True)
    sample = {
        "file_name": str(root / "images/train/0.png"), "dataset_name": "photos_train",
        "sem_seg_file_name": str(root / "labels/train/0.png"),
    }  # fmt: skip
    for _ in range(4):
        mapped = mapper(sample)
        assert mapped["masks"].shape[1:] == mapped["image"].shape[1:]
        assert not mapped["masks"].sum(dim=0).gt(1).any()
        for mask in mapped["masks"]:
            # Each mask is one class wherever the crop is; the padding is in none.
            assert len(mapped["sem_seg"][mask].unique()) <= 1
        covered = mapped["masks"].any(dim=0)
        assert bool((covered == (mapped["sem_seg"] < 3)).all())


def test_the_predictor_reads_the_masks_of_an_image_file(tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(photo)
    write_masks(tmp_path / "photo.json", MASKS, image_name="photo.png")
    opts = ["MODEL.MASKS.SOURCE", "file", "MODEL.MASKS.DIR", str(tmp_path)]
    predictor = OpenVocabPredictor("sam_mi_tiny", opts=opts, vocabulary="cat, dog")
    inputs = predictor.model_input(photo, predictor.resolve_vocabulary("cat, dog"))
    assert inputs["masks"].shape == (3, *inputs["image"].shape[1:])
    assert inputs["masks"][:2].float().mean() > 0.1 and not inputs["masks"][2].any()
    assert predictor(photo).labels.shape == (20, 30)
    pixels = np.zeros((20, 30, 3), np.uint8)
    assert predictor.predict_batch([pixels], file_names=[photo])[0].labels.shape == (20, 30)
    with pytest.raises(ValueError, match="comes without 'masks'"):
        predictor(pixels)
