import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog

from escnet_d2.commands.train import argument_parser
from escnet_d2.engine import check_config, load_config, setup
from escnet_d2.engine.config_checks import check_data_is_there


def parse(*arguments):
    return argument_parser().parse_args(["--config-file", "escnet_tiny", *arguments])


def no_labels():
    # As Detectron2's own loader of label maps does.
    raise AssertionError("No annotations found in train/.")


@pytest.fixture(params=[list])
def registered(request):
    DatasetCatalog.register("setup_test_data", request.param)
    return "setup_test_data"


@pytest.mark.parametrize("registered", [no_labels], indirect=True)
def test_data_whose_listing_asserts(registered):
    with pytest.raises(FileNotFoundError, match=f"DATASETS.TRAIN, {registered}: No annotations"):
        check_data_is_there("DATASETS.TRAIN", [registered])


def test_options_may_come_before_or_after_flags():
    args = parse("SEED", "-1", "SOLVER.MAX_ITER", "3", "--resume")
    assert (args.resume, args.opts) == (True, ["SEED", "-1", "SOLVER.MAX_ITER", "3"])
    assert parse("--num-gpus", "2", "SEED", "1").opts == ["SEED", "1"]


def test_device_falls_back_to_the_cpu(monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cfg = load_config("escnet_tiny", ["MODEL.DEVICE", "cuda:1"])
    assert cfg.MODEL.DEVICE == "cpu"
    assert "MODEL.DEVICE is cuda:1 but torch sees no GPU" in caplog.text


def test_devices_on_a_machine_with_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert load_config("escnet_tiny", ["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cuda:1"
    with pytest.raises(ValueError, match="MODEL.DEVICE is cuda:2, but the 2 GPUs here"):
        load_config("escnet_tiny", ["MODEL.DEVICE", "cuda:2"])
    cfg = load_config("escnet_tiny", ["MODEL.DEVICE", "cpu"])
    with pytest.raises(ValueError, match="hide the GPUs with CUDA_VISIBLE_DEVICES"):
        check_config(cfg, world_size=2, eval_only=False)


def test_a_given_configuration_is_copied():
    original = load_config("escnet_tiny")
    original.freeze()
    changed = load_config(original, ["SEED", "9"])
    assert (original.SEED, changed.SEED) == (-1, 9)


def test_prediction_needs_no_data_folder(tmp_path, caplog):
    opts = ["DATASETS.FOLDERS", f"('{tmp_path}',)", "DATASETS.TEST", "('no_such_set',)"]
    cfg = load_config("escnet_tiny", opts, datasets_required=False)
    assert cfg.DATASETS.TEST == ("no_such_set",)
    assert "Left out, since no data set is needed here" in caplog.text
    assert str(tmp_path) in caplog.text


def test_training_asks_for_its_test_data_first(registered, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "empty"))
    args = parse(
        *("DATASETS.TRAIN", f"('{registered}',)", "DATASETS.TEST", "('ade20k_150_test_sem_seg',)"),
        *("OUTPUT_DIR", str(tmp_path / "out")),
    )
    with pytest.raises(
        FileNotFoundError, match=r"ade20k_150.*train without evaluation, set DATASETS\.TEST '\(\)'"
    ):
        setup(args)
    assert not (tmp_path / "out").exists()


def test_a_batch_is_shared_by_all_processes(registered):
    # tests/test_bad_inputs.py has the other values that cannot work.
    cfg = load_config("escnet_tiny", ["DATASETS.TRAIN", f"('{registered}',)"])
    cfg.DATASETS.TEST = (registered,)
    check_config(cfg, world_size=2, eval_only=False)
    cfg.SOLVER.IMS_PER_BATCH = 3
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH.* divisible .*: 3 by 2"):
        check_config(cfg, world_size=2, eval_only=False)


def test_evaluation_alone_needs_no_training_settings(registered):
    opts = ["DATASETS.TRAIN", "('nope',)", "SOLVER.IMS_PER_BATCH", 3]
    cfg = load_config("escnet_tiny", opts)
    cfg.DATASETS.TEST = (registered,)
    check_config(cfg, world_size=2, eval_only=True)
    cfg.DATASETS.TEST = ()
    with pytest.raises(ValueError, match="nothing to evaluate"):
        check_config(cfg, world_size=2, eval_only=True)


def test_setup_freezes_and_keeps_the_configuration(tmp_path, registered):
    datasets = ["DATASETS.TRAIN", f"('{registered}',)", "DATASETS.TEST", f"('{registered}',)"]
    options = ["OUTPUT_DIR", str(tmp_path), "SEED", "3", "MODEL.FLOAT32_MATMUL", "high"]
    before = torch.get_float32_matmul_precision()
    try:
        cfg = setup(parse(*datasets, *options))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert cfg.is_frozen()
    written = load_config(tmp_path / "config.yaml")
    assert yaml.safe_load(written.dump()) == yaml.safe_load(cfg.dump())
    assert "Running with full config" in (tmp_path / "log.txt").read_text()
