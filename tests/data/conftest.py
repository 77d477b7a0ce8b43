"""Small data sets on disk, and catalogs that forget them."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def catalogs_restored():
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
def put_image():
    """Writes pixels to a file, and the folders above it; ``palette`` makes them indices."""

    def put(file, values, dtype=np.uint8, palette=None):
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.asarray(values, dtype))
        if palette is not None:
            image.putpalette(palette)
        image.save(file)

    return put


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


@pytest.fixture
def project(tmp_path, make_folders):
    """Two splits of 4 x 4 images and a class list."""
    make_folders(tmp_path / "train", count=2)
    make_folders(tmp_path / "val", count=1, seed=1)
    (tmp_path / "classes.txt").write_text("cat\ncouch, sofa\ndog\n")
    return tmp_path


@pytest.fixture
def run_tool(load_program):
    """Runs a program of ``tools/`` in this process, and returns its exit code."""

    def run(name, *arguments):
        return load_program(f"tools/{name}.py").main([str(argument) for argument in arguments])

    return run


@pytest.fixture
def prepare(project, run_tool):
    """Runs ``tools/prepare_folder_dataset.py`` on the project."""

    def run(*extra):
        return run_tool(
            "prepare_folder_dataset",
            *("--name", "pets", "--classes", project / "classes.txt"),
            *("--output", project / "prepared"),
            *("--split", f"train={project / 'train/images'}:{project / 'train/labels'}"),
            *("--split", f"val={project / 'val/images'}:{project / 'val/labels'}"),
            *extra,
        )

    return run
