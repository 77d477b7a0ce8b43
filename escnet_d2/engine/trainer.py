"""Detectron2's trainer with our loaders, optimizer, evaluation and checkpoints."""

from __future__ import annotations

import logging
import warnings
import weakref
from collections import OrderedDict
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, hooks
from detectron2.engine.train_loop import HookBase
from detectron2.evaluation import print_csv_format
from detectron2.projects.deeplab import build_lr_scheduler
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from escnet_d2.data import build_train_loader
from escnet_d2.evaluation import write_summary
from escnet_d2.evaluation.results import read_results
from escnet_d2.solver import build_optimizer

from .checkpoint import TrainingCheckpointer
from .compilation import compile_regions
from .evaluation_run import evaluate_dataset
from .model_description import lacks_weights
from .output_dir import inference_dir
from .precision import TRAINING_DTYPES
from .random_state import set_random_state
from .train_loop import AccumulatingTrainer

_LOG_PERIOD = 20

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Trains by configuration; ``resume_or_load`` and ``train`` as Detectron2's.

    An iteration is one optimizer step over ``SOLVER.GRAD_ACCUM_STEPS`` mini-batches. A run that was
    interrupted and resumed gives what an uninterrupted one gives, bit for bit on CPU: each
    iteration's images and augmentation follow from the seed and the iteration, and a checkpoint
    holds all other state.
    """

    build_optimizer = staticmethod(build_optimizer)
    # Detectron2's schedules, and WarmupPolyLR of its project DeepLab.
    build_lr_scheduler = staticmethod(build_lr_scheduler)

    def __init__(self, cfg: CfgNode) -> None:
        """Builds model, optimizer, schedule and hooks; the data loader waits for :meth:`train`.

        Args:
            cfg: a checked configuration, see :func:`escnet_d2.engine.check_config`.
        """
        # Not DefaultTrainer's own: it wraps the model in a way that needs a GPU per process, and
        # builds the loader before the iteration to start from is known.
        super(DefaultTrainer, self).__init__()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        # Processes, resumed runs included, must agree on the order of the data.
        self._data_seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        amp = cfg.SOLVER.AMP
        self._trainer = AccumulatingTrainer(
            distributed(model),
            optimizer,
            device=next(model.parameters()).device,
            dtype=TRAINING_DTYPES[amp.DTYPE] if amp.ENABLED else torch.float32,
            accumulation_steps=cfg.SOLVER.GRAD_ACCUM_STEPS,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = TrainingCheckpointer(
            model, cfg.OUTPUT_DIR, cfg=cfg, trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self._random_states: list[dict[str, Any]] | None = None
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Goes on from the last checkpoint in ``OUTPUT_DIR``, or starts from ``MODEL.WEIGHTS``.

        Args:
            resume: whether to look for a checkpoint.

        Raises:
            FileNotFoundError: the file does not exist.
            RuntimeError: it is damaged or of another model; the message names it.
        """
        if resume and not self.checkpointer.has_checkpoint():
            logger.warning(
                "No checkpoint in %s to resume from: starting from scratch.", self.cfg.OUTPUT_DIR
            )
            resume = False
        rest = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume:
            # The checkpoint holds the iteration that was just finished.
            self.start_iter = self.iter + 1
            self._random_states = rest.get("random_states")

    def train(self) -> OrderedDict | None:
        """Trains from ``start_iter`` to ``SOLVER.MAX_ITER``.

        Returns:
            Results of the last evaluation if ``TEST.EXPECTED_RESULTS`` asks to check them.
        """
        self.start_loader()
        # Last, since starting a loader may draw random numbers that the first run drew long ago.
        self._restore_random_state()
        logger.info(
            "Training %s on %s from iteration %d to %d. Checkpoints, scores and log.txt, which "
            "has every detail, go to %s.",
            self.cfg.MODEL.META_ARCHITECTURE,
            ", ".join(self.cfg.DATASETS.TRAIN),
            self.start_iter,
            self.max_iter,
            self.cfg.OUTPUT_DIR,
        )
        return super().train()

    def start_loader(self) -> None:
        """Starts to read the data, from ``start_iter`` on; :meth:`train` does."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.SEED = self._data_seed
        self._trainer.start_loader(build_train_loader(cfg, start_iter=self.start_iter))

    def build_hooks(self) -> list[HookBase]:
        """Returns timer, schedule, checkpoints, evaluation and, on the main process, the log."""
        cfg = self.cfg
        result = [
            hooks.IterationTimer(),
            LRScheduler(),
            # On every process, since each has a random state to save; the main one writes.
            hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD),
        ]
        if cfg.DATASETS.TEST:
            # After the checkpoint, which is then there if the evaluation fails.
            result.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
        if comm.is_main_process():
            # Last, so that it writes the scores too.
            result.append(hooks.PeriodicWriter(self.build_writers(), period=_LOG_PERIOD))
        return result

    def state_dict(self) -> dict[str, Any]:
        """Returns iteration, hooks, schedule, optimizer, loss scale and seed of the data."""
        return {**super().state_dict(), "data_seed": self._data_seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self._data_seed = state_dict["data_seed"]

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Builds the model, whose regions are compiled under ``MODEL.COMPILE``."""
        model = super().build_model(cfg)
        if cfg.MODEL.COMPILE:
            compile_regions(model)
        return model

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module) -> OrderedDict:
        """Evaluates on ``DATASETS.TEST``; leaves weights, mode and random states alone.

        A collective call. Results go to ``OUTPUT_DIR/inference/<data set>``, a table over all data
        sets that have results there to ``OUTPUT_DIR/inference``.

        Args:
            cfg: the configuration.
            model: as built, or wrapped for distributed training.

        Returns:
            ``{"sem_seg": {"mIoU": ...}}``, or a dict of these by data set if there are several; the
            inner dicts are missing on all processes but the first.
        """
        if isinstance(model, DistributedDataParallel):
            # Processes may have different numbers of batches: none may wait for the others.
            model = model.module
        results = OrderedDict()
        for name in cfg.DATASETS.TEST:
            results[name] = evaluate_dataset(cfg, model, name)
            if comm.is_main_process():
                logger.info("Evaluation results for %s in csv format:", name)
                print_csv_format(results[name])
        if comm.is_main_process():
            folder = inference_dir(cfg)
            table = write_summary(read_results(folder), folder)
            if len(results) > 1:
                # One has been logged already.
                logger.info("Results in %s, in percent:\n%s", folder, table)
        return next(iter(results.values())) if len(results) == 1 else results

    def _evaluate(self) -> OrderedDict:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def _restore_random_state(self) -> None:
        if self._random_states is None:
            return
        if len(self._random_states) == comm.get_world_size():
            set_random_state(self._random_states[comm.get_rank()])
        else:
            logger.warning(
                "The checkpoint is of %d processes, these are %d: random states are new.",
                len(self._random_states),
                comm.get_world_size(),
            )
        self._random_states = None


def model_to_evaluate(cfg: CfgNode, *, resume: bool) -> tuple[nn.Module, str]:
    """Builds a model; warns of a head that was never trained.

    Args:
        cfg: with ``MODEL.WEIGHTS``, a path, name, or empty.
        resume: take the last checkpoint in ``OUTPUT_DIR`` where there is one.

    Returns:
        The model, and where its weights are from; empty where the file of a whole model is not
        given.

    Raises:
        FileNotFoundError, WeightsError: as :meth:`TrainingCheckpointer.load`.
    """
    model = Trainer.build_model(cfg)
    checkpointer = TrainingCheckpointer(model, cfg.OUTPUT_DIR)
    resume = resume and checkpointer.has_checkpoint()
    weights = checkpointer.get_checkpoint_file() if resume else cfg.MODEL.WEIGHTS
    if not weights and lacks_weights(cfg):
        logger.warning("MODEL.WEIGHTS is empty: evaluating a head that was never trained.")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    return model, weights


class LRScheduler(hooks.LRScheduler):
    """Detectron2's hook, which logs the highest rate instead of that of the largest group.

    The largest group may be one that learns at a hundredth of SOLVER.BASE_LR.
    """

    def after_step(self) -> None:
        """Logs ``lr``, that of the new weights, and takes a step of the schedule."""
        rates = [group["lr"] for group in self.trainer.optimizer.param_groups]
        self.trainer.storage.put_scalar("lr", max(rates), smoothing_hint=False)
        self.scheduler.step()


def distributed(model: nn.Module) -> nn.Module:
    """Wraps a model for training on several processes; alone, it stays as it is.

    Args:
        model: on the device of this process, GPU or CPU.
    """
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    # Without broadcast_buffers torch shares the parameters alone. SAM's position encoding is a
    # buffer, random where no checkpoint brings it, and each process has a seed of its own.
    with torch.no_grad():
        for buffer in model.buffers():
            shared = buffer.detach().contiguous()
            torch.distributed.broadcast(shared, src=0)
            buffer.copy_(shared)
    # CPU modules refuse device_ids, which Detectron2's create_ddp_model always passes.
    device_ids = [device.index] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # Newer torch has another name for broadcast_buffers, which older torch does not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)
