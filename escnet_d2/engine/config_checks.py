"""Values of a configuration that would fail later, or only on some processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from escnet_d2.config import check_choice, class_list_setting, key_values, method_of
from escnet_d2.data import vocabulary_of_dataset

from .precision import INFERENCE_DTYPES, MATMUL_PRECISIONS, TRAINING_DTYPES

# Smallest values, of numbers and of each number of a list.
_AT_LEAST = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MAX_SIZE_TEST": 1,
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.SIZE_DIVISIBILITY": -1,
    "MODEL.ESCNET.DECODER_DIMS": 1,
    "MODEL.ESCNET.EMBED_DIM": 1,
    "MODEL.ESCNET.SKIP_DIMS": 1,
    "MODEL.SAM.EMBED_DIM": 1,
    "MODEL.SAM.MASK_IN_CHANS": 1,
    "MODEL.SAM.MLP_DIM": 1,
    "TEST.IMS_PER_BATCH": 1,
}
_AT_LEAST_IN_TRAINING = {
    "INPUT.MAX_SIZE_TRAIN": 1,
    "INPUT.MIN_SIZE_TRAIN": 0,
    "SOLVER.BASE_LR_END": 0,
    "SOLVER.BIAS_LR_FACTOR": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.CLIP_MULTIPLIER": 0,
    "SOLVER.GAMMA": 0,
    "SOLVER.GRAD_ACCUM_STEPS": 1,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.MAX_ITER": 1,
    "SOLVER.MOMENTUM": 0,
    "SOLVER.POLY_LR_POWER": 0,
    "SOLVER.REFERENCE_WORLD_SIZE": 0,
    "SOLVER.SAM_MULTIPLIER": 0,
    "SOLVER.STEPS": 1,
    "SOLVER.WARMUP_FACTOR": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.WEIGHT_DECAY": 0,
    "SOLVER.WEIGHT_DECAY_EMBED": 0,
    "SOLVER.WEIGHT_DECAY_NORM": 0,
}
_ABOVE_ZERO_IN_TRAINING = (
    "INPUT.CROP.SIZE",
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA",
    "SOLVER.BASE_LR",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
)
_LARGEST_SEED = 2**32 - 1  # Of numpy.
_SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "WarmupPolyLR")


def check_config(cfg: CfgNode, *, world_size: int, eval_only: bool) -> None:
    """Finds values that would fail later, or only on some processes.

    Args:
        cfg: what :func:`escnet_d2.engine.load_config` returned.
        world_size: number of processes.
        eval_only: leave the settings of training alone.

    Raises:
        ValueError: names the key and what it accepts.
    """
    check_inference_config(cfg)
    values = dict(key_values(cfg))
    if world_size > 1 and cfg.MODEL.DEVICE == "cpu" and torch.cuda.is_available():
        # The launcher has connected the processes by NCCL, which knows no CPU tensors.
        raise ValueError(
            "MODEL.DEVICE is cpu, but the processes are connected for GPUs: set MODEL.DEVICE cuda, "
            "or hide the GPUs with CUDA_VISIBLE_DEVICES=''."
        )
    _check_datasets("DATASETS.TEST", cfg.DATASETS.TEST)
    # Each process adds its number.
    if cfg.SEED + world_size - 1 > _LARGEST_SEED:
        raise ValueError(f"SEED must be at most {_LARGEST_SEED}, got {cfg.SEED}.")
    if eval_only:
        if not cfg.DATASETS.TEST:
            raise ValueError("DATASETS.TEST is empty: there is nothing to evaluate.")
        return
    if not method_of(cfg).has_head:
        raise ValueError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} has nothing to train: use "
            "--eval-only."
        )
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: there is nothing to train on.")
    _check_datasets("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
    check_vocabularies(cfg, "TRAIN")
    check_vocabularies(cfg, "TEST")
    _check_expected_results(cfg)
    _check_solver(cfg, values, world_size)


def check_inference_config(cfg: CfgNode) -> None:
    """Finds values that a model would fail on later when it is run, on whatever images.

    Args:
        cfg: what :func:`escnet_d2.engine.load_config` returned.

    Raises:
        ValueError: names the key and what it accepts.
    """
    method_of(cfg)
    if cfg.TEST.AUG.ENABLED:
        raise ValueError("TEST.AUG.ENABLED must be False: there is no test-time augmentation.")
    options = cfg.VOCABULARY
    check_choice("VOCABULARY.SYNONYMS", options.SYNONYMS, ("auto", "first", "mean", "max"))
    check_choice("VOCABULARY.BACKGROUND", options.BACKGROUND, ("none", "words", "threshold"))
    check_choice("TEST.DTYPE", cfg.TEST.DTYPE, INFERENCE_DTYPES)
    check_choice("MODEL.FLOAT32_MATMUL", cfg.MODEL.FLOAT32_MATMUL, MATMUL_PRECISIONS)
    values = dict(key_values(cfg))
    for key, least in _AT_LEAST.items():
        _check_numbers(key, values[key], least)


def check_names(key: str, names: Iterable[object]) -> None:
    """Raises ValueError unless all of ``names``, the value of ``key``, are text."""
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{key} takes names as text, got {name!r}.")


def check_data_is_there(key: str, names: Iterable[str]) -> None:
    """Lists data sets before hours of work end at them.

    Raises:
        FileNotFoundError: a data set has no files; names it and the key.
    """
    for name in names:
        try:
            DatasetCatalog.get(name)
        except (AssertionError, OSError, ValueError) as error:
            # Detectron2's own loader asserts that there are label maps.
            reason = str(error) or type(error).__name__
            if key == "DATASETS.TEST":
                reason += f" To train without evaluation, set {key} '()'."
            raise FileNotFoundError(f"{key}, {name}: {reason}") from error


def check_vocabularies(cfg: CfgNode, part: str) -> None:
    """Makes sure that the class list of a configuration fits its data sets.

    Args:
        cfg: what :func:`escnet_d2.engine.load_config` returned.
        part: "TRAIN" or "TEST".

    Raises:
        ValueError: names the key, the list and the data set.
    """
    override = class_list_setting(cfg, is_train=part == "TRAIN")
    for name in cfg.DATASETS[part] if override else ():
        try:
            vocabulary_of_dataset(name, override=override)
        except (OSError, ValueError) as error:
            raise ValueError(f"VOCABULARY.{part} {override}: {error}") from error


def _check_datasets(key: str, names: Iterable[str]) -> None:
    names = list(names)
    check_names(key, names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{key} names {', '.join(repeated)} more than once.")
    registered = DatasetCatalog.list()
    unknown = [name for name in names if name not in registered]
    if unknown:
        raise ValueError(
            f"{key}: no data set {', '.join(unknown)} is registered. Prepared folders come in "
            f"through DATASETS.FOLDERS. Registered: {', '.join(sorted(registered))}."
        )


def _check_expected_results(cfg: CfgNode) -> None:
    """Refuses what Detectron2 would look up in vain at the end of the training."""
    for expected in cfg.TEST.EXPECTED_RESULTS:
        is_entry = isinstance(expected, (list, tuple)) and len(expected) == 4
        if not is_entry or expected[0] != "sem_seg" or not isinstance(expected[1], str):
            raise ValueError(
                "TEST.EXPECTED_RESULTS takes entries such as ['sem_seg', 'mIoU', 40.0, 0.5], with "
                f"a score and its tolerance in percent, got {expected!r}."
            )
        _check_numbers("TEST.EXPECTED_RESULTS", expected[2:], 0)
    if cfg.TEST.EXPECTED_RESULTS and len(cfg.DATASETS.TEST) != 1:
        raise ValueError("TEST.EXPECTED_RESULTS needs a single data set in DATASETS.TEST.")


def _check_solver(cfg: CfgNode, values: Mapping[str, Any], world_size: int) -> None:
    for key, least in _AT_LEAST_IN_TRAINING.items():
        _check_numbers(key, values[key], least)
    for key in _ABOVE_ZERO_IN_TRAINING:
        _check_numbers(key, values[key], 0, above=True)
    crop = cfg.INPUT.CROP
    if len(crop.SIZE) != 2:
        raise ValueError(f"INPUT.CROP.SIZE must be (height, width), got {tuple(crop.SIZE)}.")
    if crop.TYPE.startswith("absolute") and not all(isinstance(side, int) for side in crop.SIZE):
        raise ValueError(f"INPUT.CROP.SIZE takes whole numbers of pixels, got {tuple(crop.SIZE)}.")
    if crop.TYPE.startswith("relative") and max(crop.SIZE) > 1:
        raise ValueError(f"INPUT.CROP.SIZE takes shares of at most 1, got {tuple(crop.SIZE)}.")
    if cfg.SOLVER.MOMENTUM >= 1:
        raise ValueError(f"SOLVER.MOMENTUM must be below 1, got {cfg.SOLVER.MOMENTUM}.")
    if cfg.SOLVER.BASE_LR_END > cfg.SOLVER.BASE_LR:
        raise ValueError(
            f"SOLVER.BASE_LR_END must be at most SOLVER.BASE_LR, {cfg.SOLVER.BASE_LR}, "
            f"got {cfg.SOLVER.BASE_LR_END}."
        )
    steps = list(cfg.SOLVER.STEPS)
    if sorted(set(steps)) != steps:
        raise ValueError(f"SOLVER.STEPS must be iterations in rising order, got {tuple(steps)}.")
    check_choice("SOLVER.AMP.DTYPE", cfg.SOLVER.AMP.DTYPE, TRAINING_DTYPES)
    check_choice("SOLVER.LR_SCHEDULER_NAME", cfg.SOLVER.LR_SCHEDULER_NAME, _SCHEDULES)
    check_choice("SOLVER.WARMUP_METHOD", cfg.SOLVER.WARMUP_METHOD, ("linear", "constant"))
    sampling = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    check_choice("INPUT.MIN_SIZE_TRAIN_SAMPLING", sampling, ("choice", "range"))
    if sampling == "range" and len(cfg.INPUT.MIN_SIZE_TRAIN) != 2:
        raise ValueError(
            "INPUT.MIN_SIZE_TRAIN must be (smallest, largest) under MIN_SIZE_TRAIN_SAMPLING range, "
            f"got {tuple(cfg.INPUT.MIN_SIZE_TRAIN)}."
        )
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    # With a reference size Detectron2 scales IMS_PER_BATCH to the number of processes.
    divisor = reference or world_size
    if cfg.SOLVER.IMS_PER_BATCH % divisor:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH, the images of a mini-batch over all processes, must be "
            f"divisible by the number of processes: {cfg.SOLVER.IMS_PER_BATCH} by {divisor}."
        )


def _check_numbers(key: str, value: Any, least: float, *, above: bool = False) -> None:
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if not numbers and key != "SOLVER.STEPS":
        raise ValueError(f"{key} is empty.")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValueError(f"{key} takes numbers, got {number!r}.")
        if number < least or (above and number == least):
            raise ValueError(
                f"{key} must be {'above' if above else 'at least'} {least}, got {value}."
            )
