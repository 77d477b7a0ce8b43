"""From the command line to a checked configuration."""

from __future__ import annotations

import argparse
import functools
import logging
import os
from collections.abc import Iterable, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from escnet_d2.config import get_cfg
from escnet_d2.data import register_mess_datasets, register_prepared_folder

from .config_files import find_config, merge_config_file, merge_options
from .launch import LAUNCHERS
from .precision import INFERENCE_DTYPES, MATMUL_PRECISIONS, TRAINING_DTYPES
from .run_folder import claim_output_dir

logger = logging.getLogger(__name__)


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of ``train_net.py``."""
    parser = argparse.ArgumentParser(
        description="Trains and evaluates open-vocabulary semantic segmentation.",
        epilog="docs/training.md has examples, from one GPU to several machines.",
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path or a name: escnet_tiny")
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST")
    add("--num-gpus", type=int, default=1, help="on each machine; without a GPU, CPU processes")
    add("--num-machines", type=int, default=1)
    add("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    add(
        "--dist-url",
        default="auto",
        help="where processes meet: tcp://<address of machine 0>:<port>; auto on one machine",
    )
    add(
        "--launcher",
        default="auto",
        choices=LAUNCHERS,
        help="what starts the processes; auto finds torchrun's and srun's environment",
    )
    add("opts", nargs="*", metavar="KEY VALUE", help="configuration keys to change")
    return parser


def load_config(
    config: str | os.PathLike | CfgNode,
    opts: Sequence[object] = (),
    *,
    datasets_required: bool = True,
) -> CfgNode:
    """Reads a configuration and registers the data folders that it names.

    ``MODEL.DEVICE: cuda`` becomes ``cpu`` where torch sees no GPU.

    Args:
        config: as in :func:`find_config`, or a configuration, which is copied.
        opts: ``KEY VALUE`` pairs that win over the file.
        datasets_required: False where images come from elsewhere: data sets that are not on this
            machine are then left out, with a warning.

    Returns:
        A configuration that can still be changed.

    Raises:
        FileNotFoundError: no such file or prepared folder.
        ValueError: an unknown key or a value of the wrong type.
    """
    if isinstance(config, CfgNode):
        cfg = config.clone()
        cfg.defrost()
    else:
        cfg = get_cfg()
        merge_config_file(cfg, find_config(config))
    merge_options(cfg, opts)
    _register_datasets(cfg, required=datasets_required)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE is %s but torch sees no GPU: using cpu.", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def setup(
    args: argparse.Namespace, *, require_test_data: bool = True, rerun: bool = True
) -> CfgNode:
    """Prepares a run: configuration, checks, loggers, ``OUTPUT_DIR/config.yaml``, seed, precision.

    Args:
        args: of :func:`argument_parser`.
        require_test_data: refuse a run of whose ``DATASETS.TEST`` one is not there.
        rerun: with ``eval_only``, whether results in ``OUTPUT_DIR`` are replaced.

    Returns:
        The frozen configuration.

    Raises:
        FileNotFoundError: as :func:`load_config`.
        ValueError: as :func:`load_config`, or values that can't work together.
    """
    # Before the configuration is read, so that what is said about it is seen.
    setup_logger(distributed_rank=comm.get_rank(), name="escnet_d2")
    cfg = load_config(args.config_file, args.opts)
    check_config(cfg, world_size=comm.get_world_size(), eval_only=args.eval_only)
    # The evaluator wants labels; the scores of 847 classes at the size of a photo take gigabytes.
    cfg.TEST.LABEL_MAP_ONLY = True
    if require_test_data:
        _check_test_data(cfg.DATASETS.TEST, args.eval_only)
    if args.eval_only and comm.is_main_process():
        claim_output_dir(cfg, rerun=rerun)
    cfg.freeze()
    args.config_file = find_config(args.config_file)
    default_setup(cfg, args)
    torch.set_float32_matmul_precision(cfg.MODEL.FLOAT32_MATMUL)
    rank = comm.get_rank()
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="escnet_d2", configure_stdout=False)
    return cfg


def check_config(cfg: CfgNode, *, world_size: int, eval_only: bool) -> None:
    """Finds values that would fail later, or only on some processes.

    Args:
        cfg: what :func:`load_config` returned.
        world_size: number of processes.
        eval_only: leave the settings of training alone.

    Raises:
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
    check_choice("TEST.DTYPE", cfg.TEST.DTYPE, INFERENCE_DTYPES)
    check_choice("MODEL.FLOAT32_MATMUL", cfg.MODEL.FLOAT32_MATMUL, MATMUL_PRECISIONS)
    _check_at_least_one("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH)
    if eval_only:
        if not cfg.DATASETS.TEST:
            raise ValueError("DATASETS.TEST is empty: there is nothing to evaluate.")
        return
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: there is nothing to train on.")
    _check_datasets("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
    check_choice("SOLVER.AMP.DTYPE", cfg.SOLVER.AMP.DTYPE, TRAINING_DTYPES)
    for key in ("IMS_PER_BATCH", "GRAD_ACCUM_STEPS", "MAX_ITER", "CHECKPOINT_PERIOD"):
        _check_at_least_one(f"SOLVER.{key}", cfg.SOLVER[key])
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    # With a reference size Detectron2 scales IMS_PER_BATCH to the number of processes.
    divisor = reference or world_size
    if cfg.SOLVER.IMS_PER_BATCH % divisor:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH, the images of a mini-batch over all processes, must be "
            f"divisible by the number of processes: {cfg.SOLVER.IMS_PER_BATCH} by {divisor}."
        )


def _check_datasets(key: str, names: Iterable[str]) -> None:
    names = list(names)
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


def _register_datasets(cfg: CfgNode, *, required: bool) -> None:
    """Registers the prepared folders, and MESS where one of its data sets is named."""
    steps = [functools.partial(register_prepared_folder, path) for path in cfg.DATASETS.FOLDERS]
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    for step in (*steps, functools.partial(register_mess_datasets, names)):
        try:
            step()
        except (FileNotFoundError, ValueError) as error:
            if required:
                raise
            logger.warning("Left out, since no data set is needed here: %s", error)


def _check_test_data(names: Iterable[str], eval_only: bool) -> None:
    """Finds test data that are not there before hours of work end at their evaluation."""
    for name in names:
        try:
            DatasetCatalog.get(name)
        except (AssertionError, FileNotFoundError, ValueError) as error:
            # Detectron2's own loader asserts that there are label maps.
            reason = str(error) or type(error).__name__
            if not eval_only:
                reason += " Training evaluates on it; to train without, set DATASETS.TEST '()'."
            raise FileNotFoundError(f"DATASETS.TEST, {name}: {reason}") from error


def check_choice(key: str, value: str, accepted: Iterable[str]) -> None:
    """Raises ValueError unless ``value`` of the configuration key ``key`` is accepted."""
    if value not in accepted:
        raise ValueError(f"{key} must be one of {', '.join(accepted)}, got {value!r}.")


def _check_at_least_one(key: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{key} must be at least 1, got {value}.")
