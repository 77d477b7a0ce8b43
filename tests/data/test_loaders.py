import itertools

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from escnet_d2.config import get_cfg
from escnet_d2.data import build_test_loader, build_train_loader, register_folder_dataset


@pytest.fixture
def cfg(tmp_path, make_folders):
    register_folder_dataset("first", *make_folders(tmp_path / "first", count=3), ["a", "b|c", "d"])
    register_folder_dataset(
        "second", *make_folders(tmp_path / "second", count=2, size=(4, 6), seed=1), ["e", "f", "g"]
    )
    cfg = get_cfg()
    cfg.SEED = 7
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("first", "second")
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (8, 10, 12)
    cfg.INPUT.MIN_SIZE_TEST = 8
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [8, 8]
    cfg.INPUT.COLOR_AUG_SSD = True
    return cfg


def take(loader, count):
    return list(itertools.islice(iter(loader), count))


def assert_equal_batches(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        assert len(batch) == len(other)
        for sample, twin in zip(batch, other):
            assert sample["file_name"] == twin["file_name"]
            assert torch.equal(sample["image"], twin["image"])
            assert torch.equal(sample["sem_seg"], twin["sem_seg"])
            assert sample["vocabulary"] == twin["vocabulary"]


def test_train_batches(cfg):
    batches = take(build_train_loader(cfg), 10)
    assert all(len(batch) == 2 for batch in batches)
    samples = [sample for batch in batches for sample in batch]
    # 20 samples are 4 epochs of the 5 images.
    files = [sample["file_name"] for sample in samples]
    assert all(files.count(file) == 4 for file in set(files)) and len(set(files)) == 5
    assert all(sample["image"].shape == (3, 8, 8) for sample in samples)
    assert {sample["dataset_name"]: sample["vocabulary"].class_names for sample in samples} == {
        "first": ("a", "b", "d"),
        "second": ("e", "f", "g"),
    }


@pytest.mark.parametrize("accumulate", [1, 3])
def test_resuming_equals_going_on(cfg, accumulate):
    cfg.SOLVER.GRAD_ACCUM_STEPS = accumulate
    whole = take(build_train_loader(cfg), 4 * accumulate)
    resumed = take(build_train_loader(cfg, start_iter=3), accumulate)
    assert_equal_batches(resumed, whole[3 * accumulate :])


def test_two_workers_equal_none(cfg):
    alone = take(build_train_loader(cfg, start_iter=1), 5)
    cfg.DATALOADER.NUM_WORKERS = 2
    assert_equal_batches(take(build_train_loader(cfg, start_iter=1), 5), alone)


@pytest.fixture
def as_process(monkeypatch):
    """Makes this process one of two."""

    def pretend(rank):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: rank)
        for module in ("utils.comm", "data.build"):
            monkeypatch.setattr(f"detectron2.{module}.get_world_size", lambda: 2)

    return pretend


def test_two_processes_equal_one(cfg, as_process):
    whole = take(build_train_loader(cfg, start_iter=3), 4)
    parts = []
    for rank in range(2):
        as_process(rank)
        parts.append(take(build_train_loader(cfg, start_iter=3), 4))
    assert_equal_batches([first + second for first, second in zip(*parts)], whole)


def test_seed_decides(cfg):
    def files(seed):
        cfg.SEED = seed
        return [sample["image"].sum().item() for [sample, _] in take(build_train_loader(cfg), 6)]

    assert files(7) == files(7) != files(8)
    assert files(0) == files(0)
    assert len({tuple(files(-1)) for _ in range(3)}) > 1


def test_loaders_leave_the_models_random_numbers_alone(cfg):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    for workers in (0, 1):
        cfg.DATALOADER.NUM_WORKERS = workers
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        take(build_train_loader(cfg), 2)
        list(build_test_loader(cfg, "second"))
        assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


def test_test_loader_gives_each_image_once_in_batches(cfg):
    cfg.TEST.IMS_PER_BATCH = 2
    cfg.DATASETS.TEST = ()  # It need not be named there.
    batches = list(build_test_loader(cfg, "first"))
    assert [len(batch) for batch in batches] == [2, 1]
    samples = [sample for batch in batches for sample in batch]
    assert [sample["file_name"][-5:] for sample in samples] == ["0.png", "1.png", "2.png"]
    assert all("sem_seg" not in sample and "sem_seg_file_name" in sample for sample in samples)


def test_processes_share_the_images_of_a_test(cfg, as_process):
    files = []
    for rank in range(2):
        as_process(rank)
        batches = list(build_test_loader(cfg, "first"))
        files += [sample["file_name"][-5:] for batch in batches for sample in batch]
    assert sorted(files) == ["0.png", "1.png", "2.png"]


def test_batches_that_processes_cannot_share(cfg, as_process):
    as_process(0)
    cfg.SOLVER.IMS_PER_BATCH = 3
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH.*processes \(2\), got 3"):
        build_train_loader(cfg)


def test_data_set_registered_by_detectron2(cfg, tmp_path, make_folders):
    image_root, label_root = make_folders(tmp_path / "other")
    pairs = [(str(file), str(label_root / file.name)) for file in image_root.iterdir()]
    samples = [
        {"file_name": image, "sem_seg_file_name": label, "dataset_name": "of another registration"}
        for image, label in pairs
    ]
    DatasetCatalog.register("plain", lambda: samples)
    MetadataCatalog.get("plain").stuff_classes = ["a", "b", "c"]
    cfg.DATASETS.TRAIN = ("plain",)
    [batch] = take(build_train_loader(cfg), 1)
    assert {sample["dataset_name"] for sample in batch} == {"plain"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATASETS.TRAIN", (), "DATASETS.TRAIN has no image: it names no data set"),
        ("DATASETS.TRAIN", ("nowhere",), "DATASETS.TRAIN.*nowhere.*DATASETS.FOLDERS"),
        ("SOLVER.IMS_PER_BATCH", 0, "SOLVER.IMS_PER_BATCH.*got 0"),
        ("DATALOADER.SAMPLER_TRAIN", "RepeatFactor", "SAMPLER_TRAIN.*TrainingSampler"),
    ],
)
def test_config_values_that_cannot_work(cfg, key, value, message):
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_train_loader(cfg)
