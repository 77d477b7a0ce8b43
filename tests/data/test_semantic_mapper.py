import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from escnet_d2.config import get_cfg
from escnet_d2.data import SemanticDatasetMapper, register_folder_dataset
from escnet_d2.data.augmentation import UNLABELED, PhotometricDistortion
from escnet_d2.data.semantic_mapper import build_augmentations
from escnet_d2.structures import Vocabulary


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("mine",)
    cfg.DATASETS.TEST = ("mine",)
    cfg.INPUT.MIN_SIZE_TRAIN = (8,)
    cfg.INPUT.MAX_SIZE_TRAIN = 64
    cfg.INPUT.MIN_SIZE_TEST = 8
    cfg.INPUT.MAX_SIZE_TEST = 64
    cfg.INPUT.CROP.ENABLED = False
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


def sample(tmp_path, image, labels, *, label_suffix="png"):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    labels = labels if isinstance(labels, Image.Image) else Image.fromarray(labels)
    image.save(tmp_path / "image.png")
    labels.save(tmp_path / f"label.{label_suffix}")
    return {
        "file_name": str(tmp_path / "image.png"),
        "sem_seg_file_name": str(tmp_path / f"label.{label_suffix}"),
        "dataset_name": "mine",
    }


def register(num_classes, ignore_label=255):
    register_folder_dataset(
        "mine", "images", "labels", [f"c{index}" for index in range(num_classes)], ignore_label
    )


def enable_crop(cfg, height, width):
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE = True, "absolute"
    cfg.INPUT.CROP.SIZE = [height, width]


def rgb(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_training_sample(cfg, tmp_path):
    register(3)
    labels = np.zeros((4, 6), np.uint8)
    labels[:, 3:] = 2
    mapped = SemanticDatasetMapper(cfg, True)(sample(tmp_path, rgb(4, 6), labels))
    assert mapped["image"].shape == (3, 8, 12)
    assert mapped["image"].dtype == torch.uint8
    assert mapped["sem_seg"].dtype == torch.int64
    assert (mapped["sem_seg"][:, :6] == 0).all()
    assert (mapped["sem_seg"][:, 6:] == 2).all()
    assert (mapped["height"], mapped["width"]) == (4, 6)
    assert mapped["vocabulary"] == Vocabulary.from_classes(["c0", "c1", "c2"])
    assert mapped["dataset_name"] == "mine"


def test_every_key_of_input_reaches_its_augmentation(cfg):
    register(3)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (8, 12), 50
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 9, 60
    enable_crop(cfg, 6, 7)
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.5
    cfg.INPUT.COLOR_AUG_SSD, cfg.INPUT.RANDOM_FLIP = True, "vertical"
    cfg.INPUT.SIZE_DIVISIBILITY = 32
    resize, pad, crop, colors, flip, pad_last = build_augmentations(cfg, True)
    assert (resize.short_edge_length, resize.max_size, resize.is_range) == ((8, 12), 50, True)
    assert ((pad.height, pad.width), (pad_last.height, pad_last.width)) == ((6, 7), (32, 32))
    assert (crop.crop_aug.crop_type, crop.crop_aug.crop_size) == ("absolute", [6, 7])
    assert (crop.single_category_max_area, crop.ignored_category) == (0.5, UNLABELED)
    assert isinstance(colors, PhotometricDistortion)
    assert (flip.horizontal, flip.vertical) == (False, True)
    [resize] = build_augmentations(cfg, False)
    assert (resize.short_edge_length, resize.max_size) == ((9, 9), 60)
    # No crop of a share is ever padded.
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "relative", [0.5, 0.5]
    assert len(build_augmentations(cfg, True)) == 5


def test_test_sample_leaves_labels_to_the_evaluator(cfg, tmp_path):
    register(3)
    given = sample(tmp_path, rgb(4, 6), np.zeros((5, 5), np.uint8))
    mapped = SemanticDatasetMapper(cfg, False)(given)
    assert mapped["image"].shape == (3, 8, 12)
    assert "sem_seg" not in mapped
    assert mapped["sem_seg_file_name"] == given["sem_seg_file_name"]
    assert "image" not in given
    assert (mapped["height"], mapped["width"]) == (4, 6)
    # Sizes that the data set states are kept.
    mapped = SemanticDatasetMapper(cfg, False)({**given, "height": 40, "width": 60})
    assert (mapped["height"], mapped["width"]) == (40, 60)


@pytest.mark.parametrize(
    ("num_classes", "ignore_label", "dtype", "values", "expected"),
    [
        (3, 255, np.uint8, [0, 2, 3, 255], [0, 2, 255, 255]),
        (3, 3, np.uint8, [0, 2, 3, 255], [0, 2, 3, 3]),
        (847, 65535, np.uint16, [0, 846, 847, 65535], [0, 846, 65535, 65535]),
        # PC-459: both values that other releases use are unlabeled.
        (459, 459, np.uint16, [255, 458, 459, 65535], [255, 458, 459, 459]),
        # An ignore label below K moves out of the way.
        (3, 0, np.uint8, [0, 1, 2, 255], [255, 1, 2, 255]),
        (300, 255, np.uint16, [0, 255, 299, 300], [0, 300, 299, 300]),
        (3, 255, np.int32, [0, 1, -7, 70000], [0, 1, 255, 255]),
    ],
)
def test_unlabeled_values(cfg, tmp_path, num_classes, ignore_label, dtype, values, expected):
    register(num_classes, ignore_label)
    cfg.INPUT.MIN_SIZE_TRAIN = (2,)
    labels = np.repeat(np.array([values], dtype), 2, axis=0)
    mapped = SemanticDatasetMapper(cfg, True)(
        sample(tmp_path, rgb(2, 4), labels, label_suffix="tif")
    )
    assert mapped["sem_seg"].tolist() == [expected, expected]


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (1, 1), 9),
        Image.new("RGBA", (1, 1), (1, 2, 3, 4)),
        Image.fromarray(np.array([[4000]], np.uint16)),
        Image.new("P", (1, 1), 0),
        Image.new("RGB", (1, 1)),
    ],
    ids=lambda image: image.mode,
)
def test_one_pixel_of_every_kind(cfg, tmp_path, image, is_train):
    register(3)
    enable_crop(cfg, 8, 8)
    cfg.INPUT.COLOR_AUG_SSD = True
    mapped = SemanticDatasetMapper(cfg, is_train)(
        sample(tmp_path, image, np.zeros((1, 1), np.uint8))
    )
    assert mapped["image"].shape == (3, 8, 8)
    assert mapped["image"].dtype == torch.uint8
    assert (mapped["height"], mapped["width"]) == (1, 1)


def test_absolute_crops_always_have_the_crop_size(cfg, tmp_path):
    register(3)
    enable_crop(cfg, 12, 10)
    mapped = SemanticDatasetMapper(cfg, True)(
        sample(tmp_path, np.zeros((8, 20, 3), np.uint8), np.zeros((8, 20), np.uint8))
    )
    assert mapped["image"].shape == (3, 12, 10)
    assert (mapped["image"][:, 8:] == 128).all()
    assert (mapped["sem_seg"][:8] == 0).all()
    assert (mapped["sem_seg"][8:] == 255).all()


def test_crop_avoids_a_dominating_class_and_ignores_unlabeled(cfg, tmp_path):
    register(3, ignore_label=255)
    cfg.INPUT.MIN_SIZE_TRAIN = (16,)
    enable_crop(cfg, 16, 16)
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.75
    # Class 0 fills the left; classes 1 and 2 share the right, under many unlabeled pixels.
    labels = np.zeros((16, 64), np.uint8)
    labels[:, 32:] = 200
    labels[:2, 32:] = 1
    labels[2:4, 32:] = 2
    mapper = SemanticDatasetMapper(cfg, True)
    given = sample(tmp_path, rgb(16, 64), labels)
    np.random.seed(0)  # noqa: NPY002
    one_class = 0
    for _ in range(50):
        sem_seg = mapper(given)["sem_seg"]
        counts = torch.bincount(sem_seg[sem_seg < 3], minlength=3)
        one_class += bool(counts.max() >= 0.75 * counts.sum())
    # A crop is drawn at most 10 times, of which about 60 % are refused: 0.6 ** 10 = 0.006.
    assert one_class <= 3


def test_flip_moves_image_and_labels_together(cfg, tmp_path):
    register(200)
    cfg.INPUT.MIN_SIZE_TRAIN = (6,)
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    given = sample(tmp_path, np.repeat(labels[:, :, None], 3, axis=2), labels)
    mapper = SemanticDatasetMapper(cfg, True)
    np.random.seed(0)  # noqa: NPY002
    first_columns = set()
    for _ in range(20):
        mapped = mapper(given)
        assert torch.equal(mapped["image"][0].long(), mapped["sem_seg"])
        first_columns.add(int(mapped["sem_seg"][0, 0]))
    assert first_columns == {0, 7}


def test_colors_change_only_the_image(cfg, tmp_path):
    register(3)
    cfg.INPUT.COLOR_AUG_SSD = True
    labels = np.random.default_rng(0).integers(0, 3, (8, 8), dtype=np.uint8)
    given = sample(tmp_path, rgb(8, 8), labels)
    mapper = SemanticDatasetMapper(cfg, True)
    np.random.seed(0)  # noqa: NPY002
    samples = [mapper(given) for _ in range(5)]
    assert all(np.array_equal(mapped["sem_seg"].numpy(), labels) for mapped in samples)
    assert len({mapped["image"].numpy().tobytes() for mapped in samples}) > 1


def test_sizes_that_differ_name_both_files(cfg, tmp_path):
    register(3)
    given = sample(tmp_path, rgb(4, 6), np.zeros((6, 4), np.uint8))
    with pytest.raises(ValueError, match=r"image\.png is 6 x 4 .*label\.png is 4 x 6.*EXIF"):
        SemanticDatasetMapper(cfg, True)(given)


def test_vocabulary_keys(cfg, tmp_path):
    register_folder_dataset("mine", "images", "labels", ["couch, sofa", "dog"])
    for name, content in (("train", "settee, x\nhound\n"), ("test", "seat, y\npuppy\n")):
        (tmp_path / f"{name}.txt").write_text(content)
    cfg.VOCABULARY.TRAIN = str(tmp_path / "train.txt")
    cfg.VOCABULARY.TEST = str(tmp_path / "test.txt")
    cfg.VOCABULARY.SYNONYMS = "mean"
    given = sample(tmp_path, rgb(8, 8), np.zeros((8, 8), np.uint8))
    names = {
        is_train: SemanticDatasetMapper(cfg, is_train)(given)["vocabulary"].entries[0]
        for is_train in (True, False)
    }
    assert names == {True: ("settee", "x"), False: ("seat", "y")}


def test_images_of_another_data_set_are_refused(cfg, tmp_path):
    register(3)
    given = sample(tmp_path, rgb(8, 8), np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match="'other'.*mine"):
        SemanticDatasetMapper(cfg, False)({**given, "dataset_name": "other"})
    del given["sem_seg_file_name"]
    with pytest.raises(ValueError, match="no sem_seg_file_name"):
        SemanticDatasetMapper(cfg, True)(given)


def test_data_set_without_ignore_label_means_255(cfg, tmp_path):
    MetadataCatalog.get("mine").stuff_classes = ["a", "b"]
    labels = np.array([[0, 255]], np.uint8).repeat(8, axis=0).repeat(4, axis=1)
    mapped = SemanticDatasetMapper(cfg, True)(sample(tmp_path, rgb(8, 8), labels))
    assert mapped["sem_seg"].unique().tolist() == [0, 255]
