"""Odd input from end to end that must work, and input of the Python API that must not."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import escnet_d2

NUM_CLASSES = 3
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
def folder(prepared_folder, tmp_path):
    """A prepared folder of odd images, each labeled with all classes and all other values."""
    prepared_folder(tmp_path, "odd", train=len(odd_images()))
    for path in tmp_path.glob("*/train/*.png"):
        path.unlink()
    values = np.array([*range(NUM_CLASSES), *UNLABELED], dtype=np.uint16)
    for name, image in odd_images().items():
        image.save(tmp_path / "images/train" / name)
        width, height = image.size
        labels = np.resize(values, (height, width))
        Image.fromarray(labels).save(tmp_path / "labels/train" / f"{Path(name).stem}.png")
    return tmp_path


def test_odd_images_and_values_outside_the_classes_train_and_evaluate(folder, run_program):
    done = run_program(
        *("train_net.py", "--config-file", folder / "tiny.yaml", "OUTPUT_DIR", folder / "output"),
        *("SOLVER.IMS_PER_BATCH", len(odd_images()), "DATASETS.TEST", "('odd_train',)"),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "output/inference/odd_train/results.json").read_text())
    labels = [np.asarray(Image.open(path)) for path in folder.glob("labels/train/*")]
    expected = [sum(int((label == k).sum()) for label in labels) for k in range(NUM_CLASSES)]
    assert results["num_images"] == len(odd_images())
    assert [record["pixels_gt"] for record in results["per_class"]] == expected
    # A pixel without a label is in no prediction either.
    assert sum(record["pixels_pred"] for record in results["per_class"]) == sum(expected)


@pytest.fixture(scope="module")
def predictor():
    return escnet_d2.OpenVocabPredictor("escnet_tiny", opts=["INPUT.MIN_SIZE_TEST", 32])


def test_a_bad_image_in_a_batch_is_named_and_harms_no_later_call(predictor, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.png"):
        predictor.predict_batch([noise(20, 20), bad], "dog, cat")
    assert predictor(noise(20, 30), "dog, cat").labels.shape == (20, 30)
