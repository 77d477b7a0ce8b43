"""What a training will take, and what to change, from what :mod:`preflight` measured."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass

from detectron2.config import CfgNode

from .preflight import Measurements

_MIB, _GIB = 2**20, 2**30
# Of a GPU's memory; the rest goes to fragments and to what is not torch's.
_USABLE = 0.92
# What takes a smaller share of the time is not worth a word.
_NOTABLE = 0.1
# More classes at a time are many.
_MANY_CLASSES = 64


@dataclass(frozen=True)
class Forecast:
    """What a training will take.

    Attributes:
        step: seconds of an optimizer step in the long run.
        training_hours: of all steps.
        evaluation_hours: of all evaluations; None where a data set's number of images is unknown.
        hours: of both.
        cost: price of the hours of all GPUs; None without a price.
        largest_batch: images of a mini-batch on each process; None on a CPU.
        advice: sentences, each with the keys to change.
    """

    step: float
    training_hours: float
    evaluation_hours: float | None
    hours: float
    cost: float | None
    largest_batch: int | None
    advice: tuple[str, ...]


def forecast(cfg: CfgNode, measured: Measurements, *, price: float | None = None) -> Forecast:
    """Computes what the schedule of a configuration will take.

    Args:
        cfg: the configuration that was measured.
        measured: by :func:`escnet_d2.engine.preflight.measure_training`.
        price: of a GPU for an hour, in any currency.
    """
    # Workers load while the model computes; a short trial lives on what they hold beforehand.
    step = max(measured.step, measured.loading) if cfg.DATALOADER.NUM_WORKERS else measured.step
    training = cfg.SOLVER.MAX_ITER * step / 3600
    evaluation = _evaluation_hours(cfg, measured)
    hours = training + (evaluation or 0.0)
    memory = measured.memory
    largest = None
    if memory.total is not None:
        left = _USABLE * memory.total - memory.one_image
        largest = 1 + max(int(left / memory.another_image), 0)
    return Forecast(
        step=step,
        training_hours=training,
        evaluation_hours=evaluation,
        hours=hours,
        cost=None if price is None else price * hours * measured.processes,
        largest_batch=largest,
        advice=(
            *_load_advice(measured),
            *_loader_advice(cfg, measured),
            *_precision_advice(cfg, measured),
            *_memory_advice(cfg, measured, largest),
            *_schedule_advice(cfg, measured, training, evaluation),
        ),
    )


def _evaluation_hours(cfg: CfgNode, measured: Measurements) -> float | None:
    period, last = cfg.TEST.EVAL_PERIOD, cfg.SOLVER.MAX_ITER
    times = (last - 1) // period + 1 if period > 0 else 1
    evaluations = measured.evaluations.values()
    if any(each.num_images is None for each in evaluations):
        return None
    once = sum(each.start + each.num_images * each.per_image for each in evaluations)
    return times * once / 3600


def _load_advice(measured: Measurements) -> list[str]:
    is_slowed = measured.computing < 0.8 * (measured.step - measured.waiting)
    if measured.memory.total is not None or not is_slowed:
        return []
    return [
        f"A step of {_seconds(measured.step)} got {_seconds(measured.computing)} of CPU time: "
        "other programs are at work, and all times here will follow theirs."
    ]


def _loader_advice(cfg: CfgNode, measured: Measurements) -> list[str]:
    workers = cfg.DATALOADER.NUM_WORKERS
    computing = measured.step - measured.waiting
    if workers == 0 and measured.waiting > _NOTABLE * measured.step:
        return [
            f"A step waits {_seconds(measured.waiting)} of {_seconds(measured.step)} for data: "
            "DATALOADER.NUM_WORKERS 2 or more load it meanwhile."
        ]
    if workers and measured.loading > (1 + _NOTABLE) * computing:
        wanted = math.ceil(workers * measured.loading / computing)
        return [
            f"The loader needs {_seconds(measured.loading)} for a step of {_seconds(computing)}: "
            f"DATALOADER.NUM_WORKERS {wanted} on each process would keep up; this machine has "
            f"{os.cpu_count()} processors."
        ]
    return []


def _precision_advice(cfg: CfgNode, measured: Measurements) -> list[str]:
    if measured.memory.total is None:
        return []
    found = []
    if not cfg.SOLVER.AMP.ENABLED:
        found.append("Half precision is off: SOLVER.AMP.ENABLED True SOLVER.AMP.DTYPE bfloat16.")
    if cfg.MODEL.FLOAT32_MATMUL == "highest":
        found.append("TF32 is off: MODEL.FLOAT32_MATMUL high.")
    return found


def _memory_advice(cfg: CfgNode, measured: Measurements, largest: int | None) -> list[str]:
    images = cfg.SOLVER.IMS_PER_BATCH // measured.processes
    found = []
    if largest is not None and largest > images and cfg.SOLVER.GRAD_ACCUM_STEPS > 1:
        found.append(
            f"{largest} images fit on each process: a larger SOLVER.IMS_PER_BATCH with fewer "
            "SOLVER.GRAD_ACCUM_STEPS is faster."
        )
    total = measured.memory.total or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if (largest is None or largest > images) and measured.memory.peak < 0.8 * total:
        return found
    kept = f"{_size(measured.memory.saved)} wait for the backward pass"
    is_escnet, node = cfg.MODEL.META_ARCHITECTURE == "ESCNet", cfg.MODEL.ESCNET
    if is_escnet and not node.GRADIENT_CHECKPOINTING:
        found.append(f"{kept}: MODEL.ESCNET.GRADIENT_CHECKPOINTING True keeps fewer.")
    elif not cfg.MODEL.CLIP.GRADIENT_CHECKPOINTING:
        found.append(f"{kept}: MODEL.CLIP.GRADIENT_CHECKPOINTING True keeps fewer.")
    if measured.classes > _MANY_CLASSES:
        key = "MODEL.ESCNET" if is_escnet else "MODEL.SEM_SEG_HEAD"
        limit = node.TRAIN_CLASSES if is_escnet else cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASSES
        if not limit:
            found.append(f"{key}.TRAIN_CLASSES {_MANY_CLASSES} needs less; another training.")
        if is_escnet and node.CLASS_CHUNK_SIZE in (-1, 0):
            found.append("MODEL.ESCNET.CLASS_CHUNK_SIZE 32 needs less in evaluation.")
    return found


def _schedule_advice(
    cfg: CfgNode, measured: Measurements, training: float, evaluation: float | None
) -> list[str]:
    found = []
    if measured.all_reduce is not None and measured.all_reduce > 2 * _NOTABLE * measured.step:
        found.append(
            f"Exchanging gradients takes {_seconds(measured.all_reduce)} of a step of "
            f"{_seconds(measured.step)}: fewer processes, or more SOLVER.GRAD_ACCUM_STEPS."
        )
    if evaluation is not None and evaluation > 2 * _NOTABLE * training:
        found.append(
            f"Evaluation takes {evaluation / (training + evaluation):.0%} of the time: "
            "a larger TEST.EVAL_PERIOD, or fewer DATASETS.TEST."
        )
    return found


def as_data(measured: Measurements, result: Forecast) -> dict[str, object]:
    """Returns both as plain data for JSON."""
    data = {"measured": asdict(measured), "forecast": asdict(result)}
    if measured.memory.another_image == math.inf:
        data["measured"]["memory"]["another_image"] = None
    return data


def as_text(cfg: CfgNode, measured: Measurements, result: Forecast) -> str:
    """Describes both to a person."""
    memory, evaluations = measured.memory, measured.evaluations
    images = cfg.SOLVER.IMS_PER_BATCH // measured.processes
    per_step = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.GRAD_ACCUM_STEPS
    fastest, slowest = map(_seconds, measured.step_range)
    peak = "of tensors" if memory.total else "of the process"
    rows = [
        (
            "machine",
            f"{measured.processes} x {measured.device}, {images} images a mini-batch on each, "
            f"{per_step} a step; {measured.classes} classes",
        ),
        (
            "step",
            f"{_seconds(measured.step)} ({fastest} to {slowest}), of which "
            f"{_seconds(measured.waiting)} waiting for data; "
            f"{_seconds(measured.computing)} of CPU time",
        ),
        (
            "loader",
            f"{per_step / measured.loading:.1f} images/s alone, "
            f"{_seconds(measured.loading)} for a step",
        ),
        (
            "memory",
            ", ".join(
                f"{_size(getattr(memory, name))} {words}"
                for name, words in (
                    ("weights", "weights"),
                    ("gradients", "gradients"),
                    ("optimizer", "optimizer"),
                    ("saved", "kept for the backward pass"),
                    ("peak", f"{peak} at most"),
                )
            ),
        ),
        (
            "largest batch",
            "not asked on a CPU"
            if result.largest_batch is None
            else f"{result.largest_batch} images on each process in {_size(memory.total)}",
        ),
    ]
    if measured.all_reduce is not None:
        rows.append(("all-reduce", f"{_seconds(measured.all_reduce)} for the gradients of a step"))
    for name, each in evaluations.items():
        number = "?" if each.num_images is None else each.num_images
        text = f"{_seconds(each.per_image)} an image, {number} images; {_seconds(each.start)} first"
        rows.append((f"test {name}", text))
    schedule = f"{cfg.SOLVER.MAX_ITER} steps in {_hours(result.training_hours)}"
    if result.evaluation_hours is not None:
        schedule += f", evaluation {_hours(result.evaluation_hours)}"
    rows.append(("schedule", f"{schedule}; together {_hours(result.hours)}"))
    if result.cost is not None:
        rows.append(("cost", f"{result.cost:.2f} at the price given"))
    for name in measured.stand_ins:
        rows.append(("drawn images", f"{name} is not on this machine"))
    rows += [("to change", sentence) for sentence in result.advice]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.1 else f"{1000 * value:.1f} ms"


def _size(number: int) -> str:
    return f"{number / _GIB:.1f} GiB" if number >= _GIB else f"{number / _MIB:.0f} MiB"


def _hours(value: float) -> str:
    return f"{value:.1f} h" if value >= 1 else f"{60 * value:.1f} min"
