"""No training replaces or continues another one by mistake."""

import pytest
import yaml

from escnet_d2.config import read_config
from escnet_d2.engine import load_config
from escnet_d2.engine.output_dir import (
    changed_keys,
    check_evaluation_folder,
    check_training_folder,
    config_file,
    empty_training_folder,
)


@pytest.fixture
def folder(tmp_path):
    """A training that was interrupted."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model_0000009.pth", "model_final.pth", "last_checkpoint", "metrics.json"):
        (run / name).write_text("x")
    (run / "log.txt").write_text("log")
    (run / "config.yaml").write_text(config(run).dump())
    return run


def config(run, *opts):
    return load_config("escnet_tiny", ["OUTPUT_DIR", str(run), *opts])


def check(cfg, *, resume=False, overwrite=False, allow_changes=False):
    check_training_folder(cfg, resume=resume, overwrite=overwrite, allow_changes=allow_changes)


def test_scores_of_another_run_do_not_stay(folder, tmp_path):
    run = tmp_path / "evaluated"
    scores = run / "inference/cats/results.json"
    scores.parent.mkdir(parents=True)
    scores.write_text("{}")
    with pytest.raises(ValueError, match=r"holds scores of another run, such as .*results\.json"):
        check(config(run))
    check(config(run), resume=True)
    check(config(run), overwrite=True)
    (run / "inference/config.yaml").write_text(config(run).dump())
    empty_training_folder(config(run))
    assert [path.name for path in run.rglob("*.*")] == []


def test_an_evaluation_leaves_the_record_of_a_training(folder):
    cfg = config(folder, "TEST.IMS_PER_BATCH", 2)
    assert config_file(cfg, eval_only=False) == folder / "config.yaml"
    file = config_file(cfg, eval_only=True)
    scores = folder / "inference/cats/results.json"
    scores.parent.mkdir(parents=True)
    scores.write_text("{}")
    # Of the training, until an evaluation says otherwise.
    with pytest.raises(ValueError, match="differs: TEST.IMS_PER_BATCH"):
        check_evaluation_folder(cfg, rerun=False)
    file.write_text(cfg.dump())
    check_evaluation_folder(cfg, rerun=False)
    with pytest.raises(ValueError, match="differs: TEST.IMS_PER_BATCH"):
        check_evaluation_folder(config(folder), rerun=False)


def test_folders_without_checkpoints_are_free(folder, tmp_path):
    empty_training_folder(config(folder))
    left = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(left) == {"config.yaml", "log.txt", "metrics.json"}
    assert left["metrics.json"] == 0
    check(config(folder))
    check(config(folder, "MODEL.ESCNET.NUM_BLOCKS", 1), resume=True)
    check(config(tmp_path / "new"))


def test_the_weights_to_start_from_are_not_deleted(folder):
    cfg = config(folder, "MODEL.WEIGHTS", str(folder / "model_final.pth"))
    with pytest.raises(ValueError, match="MODEL.WEIGHTS .* that --overwrite deletes: copy it"):
        check(cfg, overwrite=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.ESCNET.NUM_BLOCKS", "1"),
        ("MODEL.CLIP.INTERMEDIATE_BLOCKS", "[0, 2]"),
        ("VOCABULARY.TRAIN", "ade150"),
    ],
)
def test_resuming_as_another_run_is_refused(folder, key, value):
    cfg = config(folder, key, value)
    with pytest.raises(ValueError, match=rf"--resume: .*config\.yaml has another {key} than"):
        check(cfg, resume=True)
    check(cfg, resume=True, allow_changes=True)


def test_what_may_change_when_a_run_goes_on(folder):
    more = ("SOLVER.MAX_ITER", 500, "DATASETS.TEST", "()", "TEST.IMS_PER_BATCH", 2)
    moved = ("MODEL.CLIP.WEIGHTS", "moved.pt", "MODEL.WEIGHTS", "a.pth", "MODEL.DEVICE", "cpu")
    check(config(folder, *more, *moved), resume=True)


def test_keys_of_other_versions_do_not_count(folder):
    written = read_config(folder / "config.yaml")
    written["MODEL"]["ESCNET"]["GONE"] = 1
    del written["MODEL"]["ESCNET"]["ALPHA"]
    (folder / "config.yaml").write_text(yaml.safe_dump(written))
    file = folder / "config.yaml"
    assert changed_keys(config(folder), file, shared_only=True) == []
    assert changed_keys(config(folder), file) == ["MODEL.ESCNET.ALPHA", "MODEL.ESCNET.GONE"]
    check(config(folder), resume=True)
