"""The configurations of the data set `shapes`: each ablation changes what its name says, alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.modeling import build_model

from escnet_d2.engine.setup import check_config, load_config
from escnet_d2.modeling import ESCNet, ZeroShotCLIP

CONFIGS = Path(__file__).resolve().parents[2] / "configs/shapes"
DEFAULT = "escnet_tiny_shapes"
CHANGES = {
    "escnet_tiny_shapes_no_sam": {"MODEL.ESCNET.USE_SAM": False},
    "escnet_tiny_shapes_random_sam": {"MODEL.SAM.WEIGHTS": "random"},
    "escnet_tiny_shapes_n1": {"MODEL.ESCNET.NUM_BLOCKS": 1},
    "escnet_tiny_shapes_n4": {"MODEL.ESCNET.NUM_BLOCKS": 4},
    "escnet_tiny_shapes_points": {"MODEL.ESCNET.PROMPTS": ["point"]},
    "escnet_tiny_shapes_masks": {"MODEL.ESCNET.PROMPTS": ["mask"]},
    "escnet_tiny_shapes_spatial": {"MODEL.ESCNET.SOFTMAX": "spatial"},
    "zero_shot_clip_shapes": {"MODEL.META_ARCHITECTURE": "ZeroShotCLIP"},
}


def flat(node, prefix=""):
    for key, value in node.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_file_is_known():
    # Baselines have keys of their own; tests/config/test_baseline_configs.py looks at theirs.
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert {name for name in names if not name.startswith(("cat_seg", "sed"))} == {
        DEFAULT,
        *CHANGES,
    }


@pytest.mark.parametrize("name", CHANGES)
def test_an_ablation_changes_one_key(name):
    default, changed = dict(flat(load_config(DEFAULT))), dict(flat(load_config(name)))
    assert changed.keys() == default.keys()
    differing = {key: value for key, value in changed.items() if value != default[key]}
    folder = differing.pop("OUTPUT_DIR")
    assert folder.startswith("output/shapes/")
    assert differing == CHANGES[name]


@pytest.mark.parametrize("name", [DEFAULT, *CHANGES])
def test_it_builds_from_what_is_shipped(name, monkeypatch, tmp_path):
    monkeypatch.setenv("ESCNET_OFFLINE", "1")
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path))
    cfg = load_config(name)
    check_config(cfg, world_size=1, eval_only=False)
    model = build_model(cfg)
    assert isinstance(model, ZeroShotCLIP if name.startswith("zero") else ESCNet)


def test_training_sees_the_seen_classes_only():
    cfg = load_config(DEFAULT)
    assert cfg.DATASETS.TRAIN == ("shapes_train_sem_seg",)
    assert cfg.DATASETS.TEST == ("shapes_val_sem_seg",)
