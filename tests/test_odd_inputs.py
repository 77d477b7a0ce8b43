"""Odd input from end to end that must work, and words through the Python API that must not."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import escnet_d2
from escnet_d2.engine import argument_parser

SCRIPT = Path(__file__).resolve().parents[1] / "train_net.py"
CLASSES = ["sky", "grass, lawn", "dog"]
NUM_CLASSES = len(CLASSES)
SMALL = ["MODEL.CLIP.RESOLUTION", 32, "INPUT.MIN_SIZE_TEST", 32, "MODEL.ESCNET.NUM_BLOCKS", 1]
# Unlabeled: the ignore label, values that no class has, and those that 8 bits cannot hold.
UNLABELED = (255, NUM_CLASSES, 254, 700, 65535)


def noise(height, width):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def odd_images():
    """File name to image: every kind that a folder of photos may hold."""
    photo = Image.fromarray(noise(40, 30))
    gray = photo.convert("L")
    return {
        "gray.png": gray,
        "gray_16_bit.png": Image.fromarray(np.asarray(gray).astype(np.uint16) * 257),
        "rgba.png": photo.convert("RGBA"),
        "palette.png": photo.convert("P"),
        "cmyk.jpg": photo.convert("CMYK"),
        "one_pixel.png": photo.crop((0, 0, 1, 1)),
        "a line of words é.png": Image.fromarray(noise(1, 500)),
    }


@pytest.fixture
def folder(tmp_path):
    """A prepared folder of odd images, each labelled with all classes and all other values."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    values = np.array([*range(NUM_CLASSES), *UNLABELED], dtype=np.uint16)
    for name, image in odd_images().items():
        image.save(tmp_path / "images" / name)
        width, height = image.size
        labels = np.resize(values, (height, width))
        Image.fromarray(labels).save(tmp_path / "labels" / f"{Path(name).stem}.png")
    return tmp_path


def train(folder, name, *opts):
    """Runs train_net.py's main() on the folder as one data set for training and testing."""
    split = {"image_root": "images", "sem_seg_root": "labels", "num_images": len(odd_images())}
    content = {
        "name": name, "ignore_label": 255, "classes": CLASSES, "splits": {"all": split},
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content))
    options = [
        "DATASETS.FOLDERS", f"('{folder}',)",
        "DATASETS.TRAIN", f"('{name}_all',)",
        "DATASETS.TEST", f"('{name}_all',)",
        *SMALL,
        "INPUT.MIN_SIZE_TRAIN", "(32,)",
        "INPUT.CROP.SIZE", "(32, 32)",
        "SOLVER.IMS_PER_BATCH", len(odd_images()),
        "SOLVER.MAX_ITER", 1,
        "OUTPUT_DIR", folder / "output",
        *opts,
    ]  # fmt: skip
    spec = importlib.util.spec_from_file_location("train_net", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(argument_parser().parse_args(["--config-file", "escnet_tiny", *map(str, options)]))
    return json.loads((folder / f"output/inference/{name}_all/results.json").read_text())


def test_odd_images_and_values_outside_the_classes_train_and_evaluate(folder):
    results = train(folder, "odd")
    labels = [np.asarray(Image.open(path)) for path in (folder / "labels").iterdir()]
    expected = [sum(int((label == k).sum()) for label in labels) for k in range(NUM_CLASSES)]
    assert results["num_images"] == len(odd_images())
    assert [record["pixels_gt"] for record in results["per_class"]] == expected
    # A pixel without a label is in no prediction either.
    assert sum(record["pixels_pred"] for record in results["per_class"]) == sum(expected)


@pytest.fixture(scope="module")
def predictor():
    return escnet_d2.OpenVocabPredictor("escnet_tiny", opts=SMALL)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ("", "empty"),
        ([], "empty"),
        (" , ,", "empty"),
        (["sky", " "], "empty"),
    ],
)
def test_words_that_are_not_a_vocabulary(predictor, vocabulary, message):
    with pytest.raises(ValueError, match=message):
        predictor(noise(20, 20), vocabulary)


def test_a_missing_class_list(predictor, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"names\.txt"):
        predictor(noise(20, 20), tmp_path / "names.txt")


def test_a_bad_image_in_a_batch_is_named_and_harms_no_later_call(predictor, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.png"):
        predictor.predict_batch([noise(20, 20), bad], "dog, cat")
    assert predictor(noise(20, 30), "dog, cat").labels.shape == (20, 30)
