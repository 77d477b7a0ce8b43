"""Checks of values that the corpus in tests/test_bad_inputs.py cannot reach without a GPU."""

import pytest
from detectron2.data import DatasetCatalog

from escnet_d2.engine import load_config
from escnet_d2.engine.config_checks import check_data_is_there


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert load_config("escnet_tiny", ["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cuda:1"
    with pytest.raises(ValueError, match="MODEL.DEVICE is cuda:2, but the 2 GPUs here"):
        load_config("escnet_tiny", ["MODEL.DEVICE", "cuda:2"])


def test_data_whose_listing_asserts():
    # As Detectron2's own loader of label maps does.
    def no_labels():
        raise AssertionError("No annotations found in train/.")

    DatasetCatalog.register("config_checks_data", no_labels)
    try:
        with pytest.raises(FileNotFoundError, match="DATASETS.TRAIN, config_checks_data: No annot"):
            check_data_is_there("DATASETS.TRAIN", ["config_checks_data"])
    finally:
        DatasetCatalog.remove("config_checks_data")
