"""From the command line to a checked configuration and a run that logs."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng

from escnet_d2.config import get_cfg
from escnet_d2.data import register_mess_datasets, register_prepared_folder
from escnet_d2.weights import model_weights_path

from .config_checks import check_config, check_data_is_there, check_names, check_vocabularies
from .config_files import find_config
from .console import start_console_log, start_file_log
from .output_dir import check_evaluation_folder, check_training_folder, config_file

logger = logging.getLogger(__name__)


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
        cfg.merge_from_file(find_config(config))
    cfg.merge_from_list(opts)
    _register_datasets(cfg, required=datasets_required)
    cfg.MODEL.DEVICE = _usable_device(cfg.MODEL.DEVICE)
    return cfg


def setup(
    args: argparse.Namespace, *, require_test_data: bool = True, rerun: bool = True
) -> CfgNode:
    """Prepares a run: configuration, checks, logs, ``config.yaml``, seed, precision.

    Args:
        args: of :func:`escnet_d2.commands.train.argument_parser`.
        require_test_data: refuse a run of whose ``DATASETS.TEST`` one is not there.
        rerun: with ``eval_only``, whether results in ``OUTPUT_DIR`` are replaced.

    Returns:
        The frozen configuration.

    Raises:
        FileNotFoundError: as :func:`load_config`, or ``MODEL.WEIGHTS`` or data are not there.
        ValueError: as :func:`load_config`, values that can't work together, or an ``OUTPUT_DIR``
            that cannot be written or holds another training.
    """
    cfg = checked_config(args)
    if require_test_data:
        check_data_is_there("DATASETS.TEST", cfg.DATASETS.TEST)
        check_vocabularies(cfg, "TEST")
    if not args.eval_only:
        check_data_is_there("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
        check_training_folder(
            cfg, resume=args.resume, overwrite=args.overwrite, allow_changes=args.allow_changes
        )
    elif comm.is_main_process():
        check_evaluation_folder(cfg, rerun=rerun)
    # Others may find what the main process is about to write.
    comm.synchronize()
    cfg.freeze()
    _start_run_folder(cfg, args)
    set_up_torch(cfg, is_train=not args.eval_only)
    return cfg


def checked_config(args: argparse.Namespace) -> CfgNode:
    """Starts the console's log, and reads and checks the configuration of a run.

    Args:
        args: with ``config_file``, ``opts``, ``eval_only`` and ``resume``, as in :func:`setup`.

    Returns:
        A configuration that can still be changed, of data sets that need not be there.

    Raises:
        FileNotFoundError: as :func:`load_config`, or ``MODEL.WEIGHTS`` is not there.
        ValueError: as :func:`load_config`, or values that can't work together.
    """
    # Before the configuration is read, so that warnings about it are seen.
    start_console_log()
    cfg = load_config(args.config_file, args.opts)
    check_config(cfg, world_size=comm.get_world_size(), eval_only=args.eval_only)
    # The evaluator wants labels; the scores of 847 classes at the size of a photo take gigabytes.
    cfg.TEST.LABEL_MAP_ONLY = True
    if not args.resume:
        _check_weights(cfg.MODEL.WEIGHTS)
    return cfg


def set_up_torch(cfg: CfgNode, *, is_train: bool) -> None:
    """Seeds the random generators, and sets what ``cfg`` says of cuDNN and of matrix products."""
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
    if is_train:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    torch.set_float32_matmul_precision(cfg.MODEL.FLOAT32_MATMUL)


def _start_run_folder(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Creates ``OUTPUT_DIR``, its log with all that made this run, and ``config.yaml``."""
    folder = cfg.OUTPUT_DIR
    if not folder.strip():
        raise ValueError("OUTPUT_DIR is empty: it must name a folder.")
    try:
        file = config_file(cfg, eval_only=args.eval_only)
        file.parent.mkdir(parents=True, exist_ok=True)
        start_file_log(folder)
        if comm.is_main_process():
            file.write_text(cfg.dump(), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"OUTPUT_DIR {folder} cannot be written: {error.strerror}.") from error
    # For the file alone: of no use to someone who watches.
    rank, world_size = comm.get_rank(), comm.get_world_size()
    logger.debug("Rank of current process: %d. World size: %d", rank, world_size)
    logger.debug("Environment info:\n%s", collect_env_info())
    logger.debug("Command line arguments: %s", args)
    logger.debug("Running with full config:\n%s", cfg.dump())


def _check_weights(spec: str) -> None:
    path = model_weights_path(spec)
    if path and "://" not in path and not os.path.isfile(path):
        raise FileNotFoundError(f"MODEL.WEIGHTS {path} is not a file.")


def _usable_device(name: str) -> str:
    try:
        device = torch.device(name)
        if device.type != "cuda":
            # Names of devices that torch knows, but has no support for here, or no numbers on.
            torch.zeros((), device=device).item()
    except RuntimeError as error:
        raise ValueError(f"MODEL.DEVICE must be cpu, cuda or cuda:NUMBER, got {name!r}.") from error
    if device.type != "cuda":
        return name
    if not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE is %s but torch sees no GPU: using cpu.", name)
        return "cpu"
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise ValueError(f"MODEL.DEVICE is {name}, but the {count} GPUs here count from cuda:0.")
    return name


def _register_datasets(cfg: CfgNode, *, required: bool) -> None:
    """Registers the prepared folders, and MESS where one of its data sets is named."""
    check_names("DATASETS.FOLDERS", cfg.DATASETS.FOLDERS)
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    steps = [(register_prepared_folder, path) for path in cfg.DATASETS.FOLDERS]
    for register, source in (*steps, (register_mess_datasets, names)):
        try:
            register(source)
        except (OSError, ValueError) as error:
            if required:
                raise
            logger.warning("Left out, since no data set is needed here: %s", error)
