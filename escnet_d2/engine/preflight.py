"""Measuring on the machine at hand what a training will take, before it is started."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from escnet_d2.data import build_train_loader
from escnet_d2.data.stand_ins import draw_samples, replaced_samples

from .config_checks import check_data_is_there
from .evaluation_run import evaluate_dataset
from .model_cost import peak_memory, saved_bytes
from .precision import TRAINING_DTYPES, autocast
from .trainer import Trainer

# The first steps make the optimizer's state and choose kernels.
_WARM_UP = 2
_DRAWN = 16
_EVALUATED = 4
_ALL_REDUCES = 5
_SILENCED = ("detectron2.evaluation.evaluator", "escnet_d2.evaluation")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Memory:
    """Bytes on the device of one process, the largest of all.

    Attributes:
        weights: of the model.
        gradients: of the weights that train.
        optimizer: its state.
        saved: kept for the backward pass of one mini-batch.
        peak: most in use at once in training; see :func:`escnet_d2.engine.model_cost.peak_memory`.
        total: of a GPU; None on a CPU.
        one_image: what a mini-batch of one image took at most; None on a CPU.
        another_image: what one more image takes; None on a CPU, infinite where it did not fit.
    """

    weights: int
    gradients: int
    optimizer: int
    saved: int
    peak: int
    total: int | None = None
    one_image: int | None = None
    another_image: float | None = None


@dataclass(frozen=True)
class EvaluationTime:
    """Seconds of evaluating a data set: ``start`` once, and ``per_image`` over all processes."""

    num_images: int | None
    start: float
    per_image: float


@dataclass(frozen=True)
class Measurements:
    """What was measured; on several processes as the slowest has it.

    Attributes:
        device: such as "NVIDIA A100" or "cpu, 2 threads".
        processes: how many measured together.
        stand_ins: data sets that are not on this machine, in whose place images were drawn.
        classes: of the training's vocabulary.
        step: mean seconds of an optimizer step.
        step_range: those of the fastest and the slowest step.
        waiting: seconds of a step that it waited for data.
        computing: CPU seconds of a step in the process, those of all its threads.
        loading: seconds that the loader alone takes for the images of a step.
        all_reduce: seconds of exchanging the gradients of a step; None in one process.
        memory: by part.
        evaluations: of each of ``DATASETS.TEST``.
    """

    device: str
    processes: int
    stand_ins: tuple[str, ...]
    classes: int
    step: float
    step_range: tuple[float, float]
    waiting: float
    computing: float
    loading: float
    all_reduce: float | None
    memory: Memory
    evaluations: dict[str, EvaluationTime]


def measure_training(cfg: CfgNode, *, steps: int) -> Measurements:
    """Takes the first steps of a training, and evaluates on a few images; a collective call.

    Args:
        cfg: a checked configuration, whose ``OUTPUT_DIR`` is a temporary folder.
        steps: how many to time; others come before them.

    Raises:
        FileNotFoundError, WeightsError: the model cannot be built.
        MemoryError, torch.cuda.OutOfMemoryError: the mini-batch does not fit.
    """
    with ExitStack() as stack:
        stand_ins = stack.enter_context(_stand_ins(cfg))
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        loading, batch = _time_loader(cfg, steps)
        model = trainer.model
        if isinstance(model, DistributedDataParallel):
            model = model.module
        device = next(model.parameters()).device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        dtype = TRAINING_DTYPES[cfg.SOLVER.AMP.DTYPE] if cfg.SOLVER.AMP.ENABLED else torch.float32
        with autocast(device, dtype):
            saved = saved_bytes(model, batch)
        seconds, waiting, computing = _time_steps(trainer, steps)
        peak = peak_memory(device)
        trainable = [p for p in model.parameters() if p.requires_grad]
        state = [x for own in trainer.optimizer.state.values() for x in own.values()]
        sizes = {
            "weights": _bytes([*model.parameters(), *model.buffers()]),
            "gradients": _bytes(trainable),
            "optimizer": _bytes([x for x in state if torch.is_tensor(x)]),
            "saved": saved,
            "peak": peak,
        }
        if device.type == "cuda":
            sizes["total"] = torch.cuda.get_device_properties(device).total_memory
            with autocast(device, dtype):
                sizes["one_image"], sizes["another_image"] = _image_bytes(model, batch)
        all_reduce = _time_all_reduce(trainable) if comm.get_world_size() > 1 else None
        return Measurements(
            device=(
                torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else f"cpu, {torch.get_num_threads()} threads"
            ),
            processes=comm.get_world_size(),
            stand_ins=stand_ins,
            classes=batch[0]["vocabulary"].num_classes,
            step=_largest(sum(seconds) / len(seconds)),
            step_range=(min(seconds), max(seconds)),
            waiting=_largest(waiting),
            computing=_largest(computing),
            loading=_largest(loading),
            all_reduce=all_reduce,
            memory=Memory(**{name: _largest(size) for name, size in sizes.items()}),
            evaluations={
                name: _time_evaluation(cfg, model, name, is_drawn=name in stand_ins)
                for name in cfg.DATASETS.TEST
            },
        )


@contextmanager
def _stand_ins(cfg: CfgNode) -> Iterator[tuple[str, ...]]:
    """Draws images for the data sets that are not there; gives their names."""
    samples = {}
    for part in ("TRAIN", "TEST"):
        for name in cfg.DATASETS[part]:
            try:
                check_data_is_there(f"DATASETS.{part}", [name])
            except FileNotFoundError as error:
                logger.debug("Images are drawn: %s", error)
                folder = Path(cfg.OUTPUT_DIR, f"stand_ins_{comm.get_rank()}", name)
                samples[name] = draw_samples(name, folder, _DRAWN)
    with replaced_samples(samples):
        yield tuple(samples)


def _time_loader(cfg: CfgNode, steps: int) -> tuple[float, list[dict]]:
    """Returns the seconds in which the loader makes a step's images, and one mini-batch."""
    batches = iter(build_train_loader(cfg))
    batch = next(batches)
    # Workers are ahead by as many batches as they may hold: those do not count.
    ahead = 2 * cfg.DATALOADER.NUM_WORKERS
    for _ in range(ahead):
        next(batches)
    count = max(steps, 2 * ahead)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return (time.perf_counter() - start) / count * cfg.SOLVER.GRAD_ACCUM_STEPS, batch


def _time_steps(trainer: Trainer, steps: int) -> tuple[list[float], float, float]:
    """Returns the seconds of each step, and means: of waiting for data, and of CPU seconds."""
    seconds, waiting = [], []
    trainer.start_loader()
    with EventStorage(trainer.start_iter) as trainer.storage:
        for trainer.iter in range(_WARM_UP + steps):
            if trainer.iter == _WARM_UP:
                computing = time.process_time()
            start = time.perf_counter()
            trainer.run_step()
            _wait_for_gpu()
            seconds.append(time.perf_counter() - start)
            if comm.is_main_process():
                waiting.append(trainer.storage.history("data_time").latest())
            trainer.storage.step()
    computing = (time.process_time() - computing) / steps
    return seconds[_WARM_UP:], sum(waiting[_WARM_UP:]) / steps, computing


def _image_bytes(model: nn.Module, batch: list[dict]) -> tuple[int, float]:
    """Returns the most memory that a mini-batch of one image takes, and what one more adds."""

    def peak(images: list[dict]) -> int:
        model.zero_grad()
        torch.cuda.reset_peak_memory_stats()
        sum(model(images).values()).backward()
        return torch.cuda.max_memory_allocated()

    first = peak(batch[:1])
    try:
        return first, peak(2 * batch[:1]) - first
    except torch.cuda.OutOfMemoryError:
        return first, float("inf")
    finally:
        model.zero_grad()


def _time_all_reduce(parameters: list[Tensor]) -> float:
    """Returns the seconds of summing gradients of these over all processes, the shortest."""
    gradients = parameters[0].new_zeros(sum(p.numel() for p in parameters))
    seconds = []
    for _ in range(_ALL_REDUCES):
        comm.synchronize()
        start = time.perf_counter()
        torch.distributed.all_reduce(gradients)
        _wait_for_gpu()
        seconds.append(time.perf_counter() - start)
    return _largest(min(seconds))


def _time_evaluation(
    cfg: CfgNode, model: nn.Module, name: str, *, is_drawn: bool
) -> EvaluationTime:
    """Evaluates on one image a process, which embeds the class names, and on some more."""
    samples, processes = DatasetCatalog.get(name), comm.get_world_size()

    def seconds(count: int) -> float:
        start = time.perf_counter()
        with replaced_samples({name: samples[: count * processes]}), _silenced():
            evaluate_dataset(cfg, model, name)
        return _largest(time.perf_counter() - start)

    first = seconds(1)
    per_image = seconds(_EVALUATED) / len(samples[: _EVALUATED * processes])
    expected = MetadataCatalog.get(name).get("expected_images")
    return EvaluationTime(
        num_images=expected if is_drawn else len(samples),
        start=max(first - per_image, 0.0),
        per_image=per_image,
    )


@contextmanager
def _silenced() -> Iterator[None]:
    """Keeps scores and progress of an evaluation on a few images from being told."""
    levels = {name: logging.getLogger(name).level for name in _SILENCED}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _largest(value: float) -> float:
    """Returns the largest value of all processes."""
    return max(comm.all_gather(value))


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
