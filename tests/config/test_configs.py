"""Every shipped configuration loads, keeps the promise of its name, and builds its model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from escnet_d2.config import get_cfg
from escnet_d2.data.datasets.mess import MESS_NAMES
from escnet_d2.engine import check_config, load_config
from escnet_d2.engine.config_files import available_configs, find_config
from escnet_d2.evaluation.published import BENCHMARK_NAMES

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Parts of configurations: what they inherit, and what is laid over them in evaluation.
OVERLAYS = sorted((CONFIGS / "eval").glob("*.yaml"))
PARTS = (*OVERLAYS, *(CONFIGS / "_base_").glob("*.yaml"))
LEAVES = sorted(path for path in CONFIGS.rglob("*.yaml") if path not in PARTS)
# projects/shapes has tests of the others.
METHODS = {"escnet": "ESCNet", "cat_seg": "CATSeg", "sed": "SED"}
FOLDERS = {path.stem: path.parent.name for path in LEAVES if path.parent.name in METHODS}
NAMES = [name for name, folder in FOLDERS.items() if folder == "escnet"]
# escnet_{clip}_{resolution}_bs{batch}_{thousands of iterations}k, or ..._quick.
FULL_NAME = re.compile(r"escnet_(vit[a-z]\d+)_(\d+)_(?:paper_)?(?:quick|bs(\d+)_(\d+)k)")
SMALL_NAMES = ("escnet_tiny",)
# No files of weights.
WITHOUT_FILES = [
    *("MODEL.CLIP.WEIGHTS", "random"),
    *("MODEL.SAM.WEIGHTS", "random"),
    *("MODEL.DEVICE", "cpu"),
    *("DATASETS.FOLDERS", ()),
]


def load(name: str, *opts: object):
    return load_config(name, [*WITHOUT_FILES, *opts])


def test_configurations_are_found_by_name():
    names = [path.stem for path in LEAVES]
    assert sorted(available_configs()) == sorted(names)
    assert [Path(find_config(name)).resolve() for name in names] == LEAVES


@pytest.mark.parametrize("name", FOLDERS)
def test_configuration_loads_and_names_its_method(name):
    cfg = load(name, "DATASETS.TRAIN", ("coco_2017_train_stuff_all_sem_seg",), "DATASETS.TEST", ())
    check_config(cfg, world_size=1, eval_only=False)
    assert name.startswith(FOLDERS[name])
    assert METHODS[FOLDERS[name]] == cfg.MODEL.META_ARCHITECTURE
    assert f"output/{name}" == cfg.OUTPUT_DIR


@pytest.mark.parametrize("name", NAMES)
def test_name_says_what_is_inside(name):
    cfg = load(name)
    match = FULL_NAME.fullmatch(name)
    if match is None:
        assert name in SMALL_NAMES
        return
    clip, resolution, batch, thousands = match.groups()
    assert cfg.MODEL.CLIP.NAME.lower().replace("-", "").startswith(clip)
    assert int(resolution) == cfg.MODEL.CLIP.RESOLUTION
    assert [int(resolution)] * 2 == cfg.INPUT.CROP.SIZE
    assert (int(resolution),) == cfg.INPUT.MIN_SIZE_TRAIN
    if batch:
        assert int(batch) == cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.GRAD_ACCUM_STEPS
        assert int(thousands) * 1000 == cfg.SOLVER.MAX_ITER
    else:
        assert cfg.SOLVER.MAX_ITER <= 10


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_full_configurations_train_in_bfloat16_and_small_ones_in_float32(path):
    cfg = load(path.stem)
    is_full = "_bs" in path.stem or "_quick" in path.stem
    assert cfg.SOLVER.AMP.ENABLED is is_full
    assert is_full == (cfg.SOLVER.AMP.DTYPE == "bfloat16")
    assert ("high" if is_full else "highest") == cfg.MODEL.FLOAT32_MATMUL
    assert cfg.TEST.DTYPE == "float32"


@pytest.mark.parametrize("name", [name for name in NAMES if "_bs" in name])
def test_full_configurations_follow_the_paper(name):
    cfg = load_config(name)
    assert (cfg.MODEL.CLIP.WEIGHTS, cfg.MODEL.SAM.WEIGHTS) == ("openai", "vit_b")
    assert cfg.DATASETS.TRAIN == ("coco_2017_train_stuff_all_sem_seg",)
    # Section 4.1: 2e-4, and 2e-6 for CLIP's attention and the SAM blocks.
    assert pytest.approx(2e-4) == cfg.SOLVER.BASE_LR
    assert pytest.approx(2e-6) == cfg.SOLVER.BASE_LR * cfg.SOLVER.CLIP_MULTIPLIER
    assert pytest.approx(2e-6) == cfg.SOLVER.BASE_LR * cfg.SOLVER.SAM_MULTIPLIER


@pytest.mark.parametrize(
    "name",
    [name if name in SMALL_NAMES else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_model_builds(name):
    cfg = load(name)
    model = build_model(cfg)
    assert model.resolution == cfg.MODEL.CLIP.RESOLUTION
    assert len(model.sem_seg_head.blocks) == cfg.MODEL.ESCNET.NUM_BLOCKS
    if name not in SMALL_NAMES:
        assert model.resolution // model.clip.patch_size == 24
        sam = model.sem_seg_head.blocks[0].sam
        assert sum(p.numel() for p in sam.prompt_encoder.parameters()) == 6220


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlay_fits_every_configuration_and_names_data_sets(path):
    cfg = get_cfg()
    cfg.DATASETS.TEST = ()
    cfg.merge_from_file(path)
    if path.stem == "mess":
        assert cfg.DATASETS.TEST == MESS_NAMES
    elif path.stem == "benchmarks":
        assert tuple(BENCHMARK_NAMES.values()) == cfg.DATASETS.TEST
    elif path.stem in ("sliding_window", "whole_image"):
        assert cfg.DATASETS.TEST == ()
        assert (path.stem == "sliding_window") == cfg.TEST.SLIDING_WINDOW
    else:
        (name,) = cfg.DATASETS.TEST
        assert name in DatasetCatalog
    assert find_config(f"eval/{path.name}") == str(path)
