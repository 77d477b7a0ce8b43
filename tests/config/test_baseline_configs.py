"""Configurations of CAT-Seg and SED, ours and in the words of the releases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config

from escnet_d2.config import class_list_setting, synonym_mode
from escnet_d2.data import SemanticDatasetMapper
from escnet_d2.engine import check_config, load_config

# What the files of the releases say, key by key; the parts that differ between their files aside.
RELEASE_COMMON = {
    "MODEL": {
        "PIXEL_MEAN": [123.675, 116.280, 103.530],
        "PIXEL_STD": [58.395, 57.120, 57.375],
        "SEM_SEG_HEAD": {
            "IGNORE_VALUE": 255,
            "NUM_CLASSES": 171,
            "TRAIN_CLASS_JSON": "datasets/coco.json",
            "TEST_CLASS_JSON": "datasets/coco.json",
            "PROMPT_DEPTH": 0,
            "PROMPT_LENGTH": 0,
            "NUM_LAYERS": 2,
            "NUM_HEADS": 4,
            "HIDDEN_DIMS": 128,
            "POOLING_SIZES": [2, 2],
            "FEATURE_RESOLUTION": [24, 24],
            "WINDOW_SIZES": 12,
            "ATTENTION_TYPE": "linear",
        },
    },
    "DATASETS": {
        "TRAIN": '("coco_2017_train_stuff_all_sem_seg",)',
        "TEST": '("coco_2017_test_stuff_all_sem_seg",)',
    },
    "SOLVER": {
        "IMS_PER_BATCH": 4,
        "BASE_LR": 0.0002,
        "MAX_ITER": 80000,
        "WARMUP_FACTOR": 1.0,
        "WARMUP_ITERS": 0,
        "WEIGHT_DECAY": 0.0001,
        "OPTIMIZER": "ADAMW",
        "LR_SCHEDULER_NAME": "WarmupCosineLR",
        "BACKBONE_MULTIPLIER": 0.0,
        "CLIP_MULTIPLIER": 0.01,
        "CLIP_GRADIENTS": {
            "ENABLED": True,
            "CLIP_TYPE": "full_model",
            "CLIP_VALUE": 0.01,
            "NORM_TYPE": 2.0,
        },
    },
    "INPUT": {
        "MIN_SIZE_TRAIN_SAMPLING": "choice",
        "MIN_SIZE_TEST": 640,
        "MAX_SIZE_TEST": 2560,
        "COLOR_AUG_SSD": True,
        "FORMAT": "RGB",
        "DATASET_MAPPER_NAME": "mask_former_semantic",
        "CROP": {"ENABLED": True, "TYPE": "absolute", "SINGLE_CATEGORY_MAX_AREA": 1.0},
    },
    "TEST": {"EVAL_PERIOD": 5000, "SLIDING_WINDOW": False},
    "DATALOADER": {"FILTER_EMPTY_ANNOTATIONS": True, "NUM_WORKERS": 8},
    "VERSION": 2,
    "CUDNN_BENCHMARK": True,
}
RELEASE_FILES = {
    "CATSeg": {
        "MODEL": {
            "META_ARCHITECTURE": "CATSeg",
            "PROMPT_ENSEMBLE_TYPE": "single",
            "SEM_SEG_HEAD": {
                "NAME": "CATSegHead",
                "IN_FEATURES": ["res2", "res3", "res4"],
                "CLIP_PRETRAINED": "ViT-B/16",
                "CLIP_FINETUNE": "attention",
                "TEXT_GUIDANCE_DIM": 512,
                "TEXT_GUIDANCE_PROJ_DIM": 128,
                "APPEARANCE_GUIDANCE_DIM": 512,
                "APPEARANCE_GUIDANCE_PROJ_DIM": 128,
                "DECODER_DIMS": [64, 32],
                "DECODER_GUIDANCE_DIMS": [256, 128],
                "DECODER_GUIDANCE_PROJ_DIMS": [32, 16],
            },
        },
        "INPUT": {
            "MIN_SIZE_TRAIN": "(384, )",
            "SIZE_DIVISIBILITY": 384,
            "CROP": {"SIZE": "(384, 384)"},
        },
    },
    "SED": {
        "MODEL": {
            "META_ARCHITECTURE": "SED",
            "PROMPT_ENSEMBLE_TYPE": "imagenet",
            "BACKBONE": {"FREEZE_AT": 0, "NAME": "CLIP"},
            "WEIGHTS": "",
            "SWIN": {"EMBED_DIM": 192, "DEPTHS": [2, 2, 18, 2], "PRETRAIN_IMG_SIZE": 384},
            "ENC": {
                "CLIP_MODEL_NAME": "convnext_base_w_320",
                "CLIP_PRETRAINED_WEIGHTS": "laion_aesthetic_s13b_b82k",
                "EMBED_DIM": 768,
            },
            "SEM_SEG_HEAD": {
                "NAME": "SEDHead",
                "IN_FEATURES": ["res2", "res3", "res4", "res5"],
                "CLIP_PRETRAINED": "Convnext-B",
                "CLIP_FINETUNE": "full",
                "TEXT_GUIDANCE_DIM": 0,
                "TEXT_GUIDANCE_PROJ_DIM": 0,
                "APPEARANCE_GUIDANCE_DIM": 1024,
                "APPEARANCE_GUIDANCE_PROJ_DIM": 128,
                "DECODER_DIMS": [64, 32, 16],
                "DECODER_GUIDANCE_DIMS": [512, 256, 128],
                "DECODER_GUIDANCE_PROJ_DIMS": [32, 16, 8],
                "CNEXT_TYPE": "V1",
                "KERNEL_SIZE": [9, 9, 9],
            },
        },
        "INPUT": {
            "MIN_SIZE_TRAIN": "(768, )",
            "MAX_SIZE_TRAIN": 2666,
            "SIZE_DIVISIBILITY": 768,
            "CROP": {"SIZE": "(768, 768)"},
        },
        "TEST": {"EVAL_PERIOD": 10000, "FAST_INFERENCE": False, "TOPK": 1},
    },
}
OURS = {"CATSeg": "cat_seg_vitb16_384_bs4_80k", "SED": "sed_convnextb_768_bs4_80k"}


@pytest.fixture
def release_file(tmp_path):
    """Two files, the second of which inherits the first, as in the releases."""

    def write(method: str) -> str:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(RELEASE_COMMON))
        content = {"_BASE_": "config.yaml", **RELEASE_FILES[method]}
        (tmp_path / "model.yaml").write_text(yaml.safe_dump(content))
        return str(tmp_path / "model.yaml")

    return write


@pytest.mark.parametrize("method", OURS)
def test_files_of_the_releases_mean_what_ours_say(method, release_file):
    theirs = load_config(release_file(method), ["MODEL.DEVICE", "cpu"])
    ours = load_config(OURS[method], ["MODEL.DEVICE", "cpu"])
    check_config(theirs, world_size=1, eval_only=False)
    for key in ("SEM_SEG_HEAD", "MASK_FORMER"):
        for name, value in theirs.MODEL[key].items():
            if name not in ("NAME", "IN_FEATURES", "NUM_CLASSES", "IGNORE_VALUE") and not (
                name.endswith("_CLASS_JSON")
                or (method == "SED" and name.startswith("APPEARANCE"))
                or (method == "SED" and name == "NUM_LAYERS")
            ):
                assert ours.MODEL[key][name] == value, name
    assert ours.MODEL.PROMPT_ENSEMBLE_TYPE == theirs.MODEL.PROMPT_ENSEMBLE_TYPE
    for key in ("BASE_LR", "MAX_ITER", "CLIP_MULTIPLIER", "WEIGHT_DECAY", "IMS_PER_BATCH"):
        assert ours.SOLVER[key] == theirs.SOLVER[key]
    assert ours.SOLVER.OPTIMIZER.upper() == theirs.SOLVER.OPTIMIZER
    assert ours.SOLVER.CLIP_GRADIENTS == theirs.SOLVER.CLIP_GRADIENTS
    for key in ("MIN_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST", "SIZE_DIVISIBILITY"):
        assert getattr(ours.INPUT, key) == getattr(theirs.INPUT, key)
    assert list(ours.INPUT.CROP.SIZE) == list(theirs.INPUT.CROP.SIZE)

    def shapes(cfg):
        cfg.MODEL.CLIP.WEIGHTS, cfg.MODEL.DEVICE = "random", "meta"
        with torch.device("meta"):
            return {name: t.shape for name, t in build_model(cfg).state_dict().items()}

    assert shapes(theirs) == shapes(ours)


@pytest.mark.parametrize("method", OURS)
def test_what_a_release_wrote_beside_its_checkpoint_loads(method, release_file, tmp_path):
    """``OUTPUT_DIR/config.yaml``: every key of Detectron2, its project DeepLab and the release."""
    written = get_detectron2_cfg()
    add_deeplab_config(written)
    written.set_new_allowed(True)
    content = yaml.safe_load(Path(release_file(method)).read_text())
    content.pop("_BASE_")
    for part in (RELEASE_COMMON, content):
        written.merge_from_other_cfg(CfgNode(part, new_allowed=True))
    (tmp_path / "written.yaml").write_text(written.dump())
    cfg = load_config(str(tmp_path / "written.yaml"), ["MODEL.DEVICE", "cpu"])
    theirs = load_config(release_file(method), ["MODEL.DEVICE", "cpu"])
    assert cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED == theirs.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED
    assert cfg.SOLVER.MAX_ITER == theirs.SOLVER.MAX_ITER


@pytest.mark.parametrize("method", OURS)
def test_overrides_of_the_releases_evaluation(method, release_file):
    cfg = load_config(
        release_file(method),
        [
            "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON", "datasets/voc20b.json",
            "DATASETS.TEST", '("voc_2012_test_background_sem_seg",)',
            "TEST.SLIDING_WINDOW", "True",
            "MODEL.SEM_SEG_HEAD.POOLING_SIZES", "[1,1]",
            "MODEL.WEIGHTS", "output/model_final.pth",
            "MODEL.DEVICE", "cpu",
        ],
    )  # fmt: skip
    check_config(cfg, world_size=1, eval_only=True)
    assert cfg.MODEL.SEM_SEG_HEAD.POOLING_SIZES == [1, 1]
    assert cfg.TEST.SLIDING_WINDOW is True
    mapper = SemanticDatasetMapper(cfg, is_train=False)
    vocabulary = mapper.label_spaces["voc_2012_test_background_sem_seg"].vocabulary
    assert (vocabulary.num_entries, vocabulary.num_classes) == (59, 21)
    assert synonym_mode(cfg) == {"CATSeg": "first", "SED": "mean"}[method]
    cfg.VOCABULARY.SYNONYMS = "max"
    assert synonym_mode(cfg) == "max"


def test_class_lists_of_the_releases_are_theirs_alone(release_file):
    cfg = load_config(release_file("CATSeg"), ["MODEL.DEVICE", "cpu"])
    assert class_list_setting(cfg, is_train=True) == "datasets/coco.json"
    cfg.VOCABULARY.TRAIN = "ade150"
    assert class_list_setting(cfg, is_train=True) == "ade150"
    assert class_list_setting(cfg, is_train=False) == "datasets/coco.json"
    cfg.MODEL.META_ARCHITECTURE = "ESCNet"
    assert class_list_setting(cfg, is_train=False) == ""


@pytest.mark.parametrize("name", ["cat_seg_tiny", "sed_tiny"])
def test_tiny_models_are_small(name):
    model = build_model(load_config(name))
    assert sum(p.numel() for p in model.parameters()) < 5_000_000
    closed = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert closed == {"sem_seg_head.predictor.clip_model.logit_scale"}
