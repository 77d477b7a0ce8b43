"""Values of a configuration that would fail later, or only on some processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from escnet_d2.config import class_list_setting, key_values, method_of
from escnet_d2.data import vocabulary_of_dataset

from .precision import INFERENCE_DTYPES, MATMUL_PRECISIONS, TRAINING_DTYPES

# Keys, or beginnings of keys, whose numbers are checked, and each number of a list: at least 0.
_OF_ALL_RUNS = (
    "DATALOADER.NUM_WORKERS",
    "INPUT.MAX_SIZE_TEST",
    "INPUT.MIN_SIZE_TEST",
    "TEST.IMS_PER_BATCH",
)
_OF_TRAINING = ("INPUT.CROP.SIZE", "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TRAIN", "SOLVER.")
_AT_LEAST_1 = (
    "INPUT.MAX_SIZE_TEST",
    "INPUT.MAX_SIZE_TRAIN",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.GRAD_ACCUM_STEPS",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.MAX_ITER",
    "SOLVER.STEPS",
    "TEST.IMS_PER_BATCH",
)
_ABOVE_0 = ("INPUT.CROP.SIZE", "SOLVER.BASE_LR", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE")
_SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "WarmupPolyLR")
_CHOICES = {
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "MODEL.FLOAT32_MATMUL": MATMUL_PRECISIONS,
    "SOLVER.AMP.DTYPE": TRAINING_DTYPES,
    "SOLVER.LR_SCHEDULER_NAME": _SCHEDULES,
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "TEST.DTYPE": INFERENCE_DTYPES,
}


def check_config(cfg: CfgNode, *, world_size: int, eval_only: bool) -> None:
    """Finds values that would fail later, or only on some processes.

    Args:
        cfg: what :func:`escnet_d2.engine.load_config` returned.
        world_size: number of processes.
        eval_only: leave the settings of training alone.

    Raises:
        FileNotFoundError: ``VOCABULARY.TRAIN`` or ``.TEST`` is not there.
        ValueError: names the key and what it accepts.
    """
    if world_size > 1 and cfg.MODEL.DEVICE == "cpu" and torch.cuda.is_available():
        # The launcher has connected the processes by NCCL, which knows no CPU tensors.
        raise ValueError(
            "MODEL.DEVICE is cpu, but the processes are connected for GPUs: set MODEL.DEVICE cuda, "
            "or hide the GPUs with CUDA_VISIBLE_DEVICES=''."
        )
    _check_datasets("DATASETS.TEST", cfg.DATASETS.TEST)
    if cfg.TEST.AUG.ENABLED:
        raise ValueError("TEST.AUG.ENABLED must be False: there is no test-time augmentation.")
    method_of(cfg)
    for key, value in key_values(cfg):
        if eval_only and key.startswith(_OF_TRAINING):
            continue
        if key in _CHOICES:
            check_choice(key, value, _CHOICES[key])
        elif key.startswith((*_OF_ALL_RUNS, *_OF_TRAINING)):
            _check_numbers(key, value)
    if eval_only:
        if not cfg.DATASETS.TEST:
            raise ValueError("DATASETS.TEST is empty: there is nothing to evaluate.")
        return
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: there is nothing to train on.")
    _check_datasets("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
    _check_vocabularies(cfg)
    _check_training(cfg, world_size)


def check_choice(key: str, value: str, accepted: Iterable[str]) -> None:
    """Raises ValueError unless ``value`` of the configuration key ``key`` is accepted."""
    if value not in accepted:
        raise ValueError(f"{key} must be one of {', '.join(accepted)}, got {value!r}.")


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


def _check_vocabularies(cfg: CfgNode) -> None:
    for part, names in (("TRAIN", cfg.DATASETS.TRAIN), ("TEST", cfg.DATASETS.TEST)):
        override = class_list_setting(cfg, is_train=part == "TRAIN")
        if not override:
            continue
        for name in names:
            try:
                vocabulary_of_dataset(name, override=override)
            except (OSError, ValueError) as error:
                raise type(error)(f"VOCABULARY.{part} {override}: {error}") from error


def _check_training(cfg: CfgNode, world_size: int) -> None:
    size = tuple(cfg.INPUT.CROP.SIZE)
    if len(size) != 2:
        raise ValueError(f"INPUT.CROP.SIZE must be (height, width), got {size}.")
    if cfg.INPUT.CROP.TYPE.startswith("absolute") and not all(isinstance(n, int) for n in size):
        raise ValueError(f"INPUT.CROP.SIZE takes whole numbers of pixels, got {size}.")
    steps = list(cfg.SOLVER.STEPS)
    if sorted(set(steps)) != steps:
        raise ValueError(f"SOLVER.STEPS must be iterations in rising order, got {tuple(steps)}.")
    # With a reference size Detectron2 scales IMS_PER_BATCH to the number of processes.
    divisor = cfg.SOLVER.REFERENCE_WORLD_SIZE or world_size
    if cfg.SOLVER.IMS_PER_BATCH % divisor:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH, the images of a mini-batch over all processes, must be "
            f"divisible by the number of processes: {cfg.SOLVER.IMS_PER_BATCH} by {divisor}."
        )


def _check_numbers(key: str, value: Any) -> None:
    if value is None or isinstance(value, (bool, str)):
        # Of the type that the key takes; what it means is another room's to check.
        return
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if not numbers and key != "SOLVER.STEPS":
        raise ValueError(f"{key} is empty.")
    least, above = int(key in _AT_LEAST_1), key in _ABOVE_0
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValueError(f"{key} takes numbers, got {number!r}.")
        if number < least or (above and number == least):
            raise ValueError(
                f"{key} must be {'above' if above else 'at least'} {least}, got {value}."
            )
