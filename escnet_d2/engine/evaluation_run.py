"""Evaluating a model by configuration: one data set after the other, the same on all processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from torch import nn

from escnet_d2.config import class_list_setting
from escnet_d2.data import build_test_loader, vocabulary_of_dataset
from escnet_d2.data.class_lists import CLASS_LIST_VARIANTS, class_list_variant
from escnet_d2.evaluation import SemSegEvaluator
from escnet_d2.evaluation.results import RESULTS_NAME
from escnet_d2.evaluation.tables import DatasetOutcome
from escnet_d2.modeling.escnet import ESCNetHead, HeadOutput

from .model_cost import measure_cost
from .output_dir import inference_dir
from .precision import INFERENCE_DTYPES, autocast
from .random_state import preserved_random_state

logger = logging.getLogger(__name__)

EVALUATED, KEPT, SKIPPED, FAILED = "evaluated", "kept", "skipped", "failed"
# What damaged files, bad vocabularies, NaN scores and exhausted memory raise. Everything else is a
# programming error, which ends the run.
FAILURES = (OSError, ValueError, FloatingPointError, MemoryError, torch.cuda.OutOfMemoryError)
_Result = TypeVar("_Result")


class EvaluationError(RuntimeError):
    """A data set cannot be evaluated; raised on all processes, whichever found out."""


def training_classes(cfg: CfgNode) -> list[str] | None:
    """Returns class names of ``DATASETS.TRAIN``, the synonyms of a class joined by commas.

    None if no training data set is registered here, as may be where a model is only evaluated.
    """
    vocabularies = [
        # "mean" keeps every synonym of a class in its one entry.
        vocabulary_of_dataset(
            name, override=class_list_setting(cfg, is_train=True), synonyms="mean"
        )
        for name in cfg.DATASETS.TRAIN
        if name in DatasetCatalog
    ]
    classes = [", ".join(entry) for vocabulary in vocabularies for entry in vocabulary.entries]
    return list(dict.fromkeys(classes)) or None


def evaluate_dataset(cfg: CfgNode, model: nn.Module, name: str) -> dict[str, Any]:
    """Evaluates a model on one data set; leaves its mode and random states alone.

    The classes of ``DATASETS.TRAIN`` are the seen ones. A collective call: what fails on one
    process fails on all of them.

    Args:
        cfg: the configuration.
        model: not wrapped for distributed training.
        name: of the data set.

    Returns:
        The results of :class:`SemSegEvaluator`; empty on all processes but the first.

    Raises:
        EvaluationError: one of the processes raised one of :data:`FAILURES`.
    """

    def run() -> SemSegEvaluator:
        evaluator = SemSegEvaluator(
            name,
            output_dir=inference_dir(cfg) / name,
            seen_classes=training_classes(cfg),
            boundary_dilation=cfg.TEST.BOUNDARY_DILATION,
        )
        # evaluate() waits for all processes, so it comes once all of them have got that far.
        images_only = SimpleNamespace(
            reset=evaluator.reset, process=evaluator.process, evaluate=dict
        )
        with _counted_classes(model) as counts:
            inference_on_dataset(model, build_test_loader(cfg, name), images_only)
        computed.extend(counts)
        return evaluator

    device, computed = next(model.parameters()).device, []
    with preserved_random_state(), autocast(device, INFERENCE_DTYPES[cfg.TEST.DTYPE]):
        evaluator = _on_all_processes(run)
        _log_classes(list(itertools.chain.from_iterable(comm.all_gather(computed))))
        return _on_all_processes(evaluator.evaluate) or {}


def evaluate_datasets(
    cfg: CfgNode, model: nn.Module, *, allow_incomplete: bool = False
) -> list[DatasetOutcome]:
    """Evaluates a model on ``DATASETS.TEST``, whatever becomes of each; a collective call.

    A data set that has results in ``OUTPUT_DIR`` is finished: :func:`check_evaluation_folder` makes
    sure that they are of this configuration.

    Args:
        cfg: the configuration.
        model: with its weights, not wrapped for distributed training.
        allow_incomplete: evaluate data sets with fewer or more images than they should have.

    Returns:
        One outcome per data set, in order, on all processes.
    """
    outcomes = []
    for number, name in enumerate(cfg.DATASETS.TEST, start=1):
        logger.info("Data set %d of %d: %s", number, len(cfg.DATASETS.TEST), name)
        # Processes may see the disk at other moments: the first one's view counts.
        state, detail = comm.all_gather(_state(cfg, name, allow_incomplete))[0]
        if not state:
            try:
                evaluate_dataset(cfg, model, name)
                state = EVALUATED
            except EvaluationError as error:
                state, detail = FAILED, str(error)
        if state in (SKIPPED, FAILED):
            logger.warning("%s: %s: %s", name, state, detail)
        outcomes.append(DatasetOutcome(name, state, detail))
    return outcomes


def measure_first_images(cfg: CfgNode, model: nn.Module, count: int) -> dict[str, Any] | None:
    """Measures what a model costs on the first data set of ``DATASETS.TEST`` that works.

    Returns:
        As :func:`measure_cost`, and ``dataset``; None where no data set works.
    """
    for name in cfg.DATASETS.TEST:
        try:
            images = itertools.chain.from_iterable(build_test_loader(cfg, name))
            samples = list(itertools.islice(images, count))
            with autocast(cfg.MODEL.DEVICE, INFERENCE_DTYPES[cfg.TEST.DTYPE]):
                return {**measure_cost(model, samples), "dataset": name}
        except (*FAILURES, AssertionError) as error:
            # The evaluation says what is wrong with it, and goes on with the others.
            logger.info("The cost is not measured on %s: %s", name, _describe(error))
    return None


def _state(cfg: CfgNode, name: str, allow_incomplete: bool) -> tuple[str, str]:
    """Returns state and detail of a data set that need not or cannot be evaluated, else "", ""."""
    override, metadata = cfg.VOCABULARY.TEST, MetadataCatalog.get(name)
    if override in CLASS_LIST_VARIANTS:
        try:
            class_list_variant(metadata.get("class_list", ""), override)
        except ValueError as error:
            return SKIPPED, str(error)
    try:
        num_images = len(DatasetCatalog.get(name))
    except FileNotFoundError as error:
        return SKIPPED, f"not prepared: {error}"
    except (*FAILURES, AssertionError) as error:
        # Detectron2's own loader asserts that there are label maps.
        return FAILED, _describe(error) if str(error) else "no label maps are listed"
    expected = metadata.get("expected_images")
    if expected not in (None, num_images) and not allow_incomplete:
        return FAILED, f"{num_images} labeled images, expected {expected}: incomplete."
    try:
        results = json.loads((inference_dir(cfg) / name / RESULTS_NAME).read_text(encoding="utf-8"))
        is_finished = results["num_images"] == num_images
    except (OSError, ValueError, KeyError):
        is_finished = False
    return (KEPT, "") if is_finished else ("", "")


@contextlib.contextmanager
def _counted_classes(model: nn.Module) -> Iterator[list[int]]:
    """Collects how many vocabulary entries ESC-Net computes for each view of an image."""
    counts: list[int] = []

    def count(_: nn.Module, __: tuple, output: HeadOutput) -> None:
        counts.extend([output.entries.shape[1]] * len(output.entries))

    heads = [module for module in model.modules() if isinstance(module, ESCNetHead)]
    hooks = [head.register_forward_hook(count) for head in heads]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def _log_classes(counts: list[int]) -> None:
    if counts:
        logger.info(
            "Vocabulary entries computed per view: %.1f in the mean, %d at most, of %d views.",
            sum(counts) / len(counts),
            max(counts),
            len(counts),
        )


def _on_all_processes(step: Callable[[], _Result]) -> _Result:
    """Runs a step that may fail on one process, which then fails on all; a collective call."""
    failure = result = None
    try:
        result = step()
    except FAILURES as error:
        logger.debug("This process failed.", exc_info=True)
        failure = error
    for text in comm.all_gather("" if failure is None else _describe(failure)):
        if text:
            raise EvaluationError(text) from failure
    return result


def error_in_traceback(text: str) -> str:
    """Returns "ValueError: what was wrong", in one line, of a traceback that a loader sends."""
    starts = list(re.finditer(r"^[\w.]*(Error|Exception)\b", text, re.MULTILINE))
    last = text[starts[-1].start() :] if starts else text.strip().splitlines()[-1]
    return " ".join(last.split())


def _describe(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    if "Traceback" in str(error):
        return error_in_traceback(str(error))
    return f"{type(error).__name__}: {' '.join(lines)}"
