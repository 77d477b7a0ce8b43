"""The configurations of the data set `shapes`: each ablation changes what its name says, alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.modeling import build_model

from escnet_d2.engine import check_config, load_config
from escnet_d2.modeling import ESCNet, TwoStageSAM, ZeroShotCLIP
from escnet_d2.projects.shapes import CLASSES

CONFIGS = Path(__file__).resolve().parents[3] / "configs/shapes"
DEFAULT = "escnet_tiny_shapes"
CHANGES = {
    "escnet_tiny_shapes_no_sam": {"MODEL.ESCNET.USE_SAM": False},
    "escnet_tiny_shapes_random_sam": {
        "MODEL.SAM.WEIGHTS": "random",
        "MODEL.SAM.ADAPTER": "",
        "MODEL.SAM.TRAIN": True,
    },
    "escnet_tiny_shapes_no_adapter": {"MODEL.SAM.ADAPTER": "", "MODEL.SAM.TRAIN": True},
    "escnet_tiny_shapes_guidance": {"MODEL.ESCNET.SAM_OUTPUTS": ["guidance"]},
    "escnet_tiny_shapes_own_masks": {"MODEL.ESCNET.SAM_OUTPUTS": ["guidance", "masks"]},
    "escnet_tiny_shapes_own_features": {"MODEL.ESCNET.SAM_OUTPUTS": ["guidance", "features"]},
    "escnet_tiny_shapes_paper": {
        "MODEL.SAM.ADAPTER": "",
        "MODEL.SAM.TRAIN": True,
        "MODEL.ESCNET.SOFTMAX": "class",
        "MODEL.ESCNET.ALPHA": 0.1,
        "MODEL.ESCNET.PROMPTS": ["point", "mask"],
        "MODEL.ESCNET.SAM_OUTPUTS": ["guidance"],
        "MODEL.ESCNET.AUX_LOSS_WEIGHT": 0.0,
        "MODEL.ESCNET.PROMPT_DROPOUT": 0.0,
    },
    "zero_shot_clip_shapes": {"MODEL.META_ARCHITECTURE": "ZeroShotCLIP"},
    "two_stage_sam_shapes": {
        "MODEL.META_ARCHITECTURE": "TwoStageSAM",
        "MODEL.MASKS.SOURCE": "grid",
        "MODEL.MASKS.GRID_SIDE": 16,
        "MODEL.MASKS.MULTIMASK": False,
        "MODEL.MASKS.IOU_THRESHOLD": 0.0,
        "MODEL.MASKS.STABILITY_THRESHOLD": 0.0,
    },
}
WITHOUT_HEAD = {"zero_shot_clip_shapes": ZeroShotCLIP, "two_stage_sam_shapes": TwoStageSAM}
# By name: the method, and the side of what its CLIP sees of a scene.
BASELINES = {
    "cat_seg_tiny_shapes": ("CATSeg", 192),
    "sed_tiny_shapes": ("SED", 384),
    "sam_mi_tiny_shapes": ("SAMMI", 192),
}
# What a baseline may have otherwise than ESC-Net: keys of its own method, what GPUs alone read,
# what the crop and the window would, which are off, and limits on longer sides than scenes have.
BASELINE_PREFIXES = (
    "CUDNN_BENCHMARK",
    "TEST.POOLING_SIZES",
    "MODEL.",
    "SOLVER.SAM_MULTIPLIER",
    "INPUT.CROP.SIZE",
    "INPUT.MAX_SIZE_",
    "TEST.WINDOW_",
)


def flat(node, prefix=""):
    for key, value in node.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_file_is_known():
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert names == {DEFAULT, *CHANGES, *BASELINES}


@pytest.mark.parametrize("name", CHANGES)
def test_an_ablation_changes_what_its_name_says(name):
    default, changed = dict(flat(load_config(DEFAULT))), dict(flat(load_config(name)))
    assert changed.keys() == default.keys()
    differing = {key: value for key, value in changed.items() if value != default[key]}
    folder = differing.pop("OUTPUT_DIR")
    assert folder.startswith("output/shapes/")
    assert differing == CHANGES[name]


@pytest.mark.parametrize("name", [DEFAULT, *CHANGES])
def test_it_builds_from_what_is_shipped(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cfg = load_config(name)
    check_config(cfg, world_size=1, eval_only=name in WITHOUT_HEAD)
    assert type(build_model(cfg)) is WITHOUT_HEAD.get(name, ESCNet)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_trains_and_is_tested_as_esc_net(name):
    default, baseline = dict(flat(load_config(DEFAULT))), dict(flat(load_config(name)))
    differing = {key for key, value in baseline.items() if value != default[key]}
    differing = {key for key in differing if not key.startswith(BASELINE_PREFIXES)}
    assert differing == {"OUTPUT_DIR"}
    assert baseline["OUTPUT_DIR"].startswith("output/shapes/")
    assert not baseline["INPUT.CROP.ENABLED"]
    assert not baseline["TEST.SLIDING_WINDOW"]


@pytest.mark.parametrize(("name", "method", "side"), [(n, *v) for n, v in BASELINES.items()])
def test_a_baseline_builds_from_what_is_shipped(name, method, side, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cfg = load_config(name)
    check_config(cfg, world_size=1, eval_only=False)
    model = build_model(cfg)
    assert type(model).__name__ == method
    assert model.resolution == (side, side)
    assert sum(p.numel() for p in model.sem_seg_head.predictor.transformer.parameters()) < 300_000


def test_all_models_train_and_test_on_all_classes():
    escnet, cat_seg, sed, sam_mi = (
        load_config(f"{name}_tiny_shapes").MODEL for name in ("escnet", "cat_seg", "sed", "sam_mi")
    )
    assert (escnet.ESCNET.MAX_CLASSES, escnet.ESCNET.TRAIN_CLASSES) == (0, 0)
    assert escnet.ESCNET.VOTES_KEPT == 1.0
    for model in (cat_seg, sed, sam_mi):
        assert model.SEM_SEG_HEAD.TRAIN_CLASSES == 0
    for model in (cat_seg, sam_mi):
        assert len(CLASSES) == model.SEM_SEG_HEAD.PAD_LENGTH


def test_training_sees_the_seen_classes_only():
    cfg = load_config(DEFAULT)
    assert cfg.DATASETS.TRAIN == ("shapes_train_200_sem_seg",)
    assert cfg.DATASETS.TEST == ("shapes_val_sem_seg",)
