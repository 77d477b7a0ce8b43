"""Small data sets on disk, and catalogues that forget them."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def catalogues_restored():
    before = set(DatasetCatalog), set(MetadataCatalog)
    yield
    for name in set(DatasetCatalog) - before[0]:
        DatasetCatalog.remove(name)
    for name in set(MetadataCatalog) - before[1]:
        MetadataCatalog.remove(name)


@pytest.fixture
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip("the sample data are not beside this checkout")
    return SHARED_DATA


@pytest.fixture
def make_folders():
    """Writes ``count`` random images and label maps below ``root``; returns the two folders."""

    def make(root, *, count=2, size=(4, 4), num_classes=3, seed=0):
        generator = np.random.default_rng(seed)
        image_root, label_root = root / "images", root / "labels"
        image_root.mkdir(parents=True)
        label_root.mkdir()
        for index in range(count):
            image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(image).save(image_root / f"{index}.png")
            labels = generator.integers(0, num_classes, size, dtype=np.uint8)
            labels[0, 0] = 255
            Image.fromarray(labels).save(label_root / f"{index}.png")
        return image_root, label_root

    return make
