"""One model on many data sets: each with its own vocabulary, whatever becomes of the others."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, inference_context
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader

from escnet_d2.config import class_list_setting, synonym_mode
from escnet_d2.data import build_test_loader, vocabulary_of_dataset
from escnet_d2.data.class_lists import CLASS_LIST_VARIANTS, class_list_variant
from escnet_d2.io import write_json
from escnet_d2.weights import model_weights_path
from escnet_d2.weights.checksum import sha256_of

from .precision import INFERENCE_DTYPES, autocast
from .random_state import preserved_random_state
from .trainer import Trainer

logger = logging.getLogger(__name__)

EVALUATED, KEPT, SKIPPED, FAILED = "evaluated", "kept", "skipped", "failed"
RECORD_NAME = "evaluation.json"
_RESULTS_NAME = "results.json"
_LOG_PERIOD = 100
# What a broken file, data set or vocabulary raises, and running out of memory. A programming error
# looks the same; its traceback is logged, and the run fails at its end.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Settings that cannot change a score.
_IRRELEVANT = {"MODEL": ("DEVICE", "WEIGHTS"), "TEST": ("EVAL_PERIOD", "EXPECTED_RESULTS")}
_INPUT_KEYS = ("FORMAT", "MIN_SIZE_TEST", "MAX_SIZE_TEST")


@dataclass(frozen=True)
class DatasetOutcome:
    """What became of one data set.

    Attributes:
        name: in Detectron2's catalogues.
        state: ``evaluated`` now, ``kept`` from an earlier run, ``skipped`` since it is not there,
            or ``failed``.
        detail: why, for the last two.
        results: content of ``results.json``; None for the last two.
    """

    name: str
    state: str
    detail: str = ""
    results: dict[str, Any] | None = None


def evaluate_datasets(
    cfg: CfgNode,
    model: nn.Module,
    names: Sequence[str],
    *,
    weights: str,
    rerun: bool = False,
    allow_incomplete: bool = False,
) -> list[DatasetOutcome]:
    """Evaluates a model on each data set; a collective call.

    Each data set's files are those of :meth:`Trainer.build_evaluator`, in
    ``OUTPUT_DIR/inference/<data set>``, and ``evaluation.json``, which says of which weights and
    settings they are. Results of the same are kept.

    Args:
        cfg: the configuration.
        model: with its weights, not wrapped for distributed training.
        names: registered data sets.
        weights: the file that the weights are of, or "".
        rerun: evaluate again what has results.
        allow_incomplete: evaluate data sets with fewer or more images than they should have.

    Returns:
        One outcome per data set, in order, the same on all processes but for ``results``, which
        only the first has.
    """
    outcomes = []
    for number, name in enumerate(names, start=1):
        logger.info("Data set %d of %d: %s", number, len(names), name)
        outcome = _evaluate(cfg, model, name, weights, rerun, allow_incomplete)
        if outcome.state in (SKIPPED, FAILED):
            logger.warning("%s: %s: %s", name, outcome.state, outcome.detail)
        outcomes.append(outcome)
    return outcomes


def _evaluate(
    cfg: CfgNode, model: nn.Module, name: str, weights: str, rerun: bool, allow_incomplete: bool
) -> DatasetOutcome:
    state, detail, num_images = _agreed(_find(cfg, name, allow_incomplete))
    if state:
        return DatasetOutcome(name, state, detail)
    folder = Path(cfg.OUTPUT_DIR) / "inference" / name
    record, error = {}, ""
    try:
        record = run_record(cfg, name, weights, num_images)
    except FAILURES as failure:
        error = _describe(name, failure)
    # A class list may be missing on one machine only.
    error = _first_error(error)
    if error:
        return DatasetOutcome(name, FAILED, error)
    if not rerun:
        results = _agreed(_finished_results(folder, record))
        if results is not None:
            logger.info("%s: keeping the results in %s.", name, folder)
            return DatasetOutcome(name, KEPT, results=results)
    if comm.is_main_process():
        (folder / RECORD_NAME).unlink(missing_ok=True)
    error = _run_model(cfg, model, name)
    if error:
        return DatasetOutcome(name, FAILED, error)
    if not comm.is_main_process():
        return DatasetOutcome(name, EVALUATED)
    results = json.loads((folder / _RESULTS_NAME).read_text(encoding="utf-8"))
    record["results"] = sha256_of(folder / _RESULTS_NAME)
    # Last: what has a record is finished.
    write_json(folder / RECORD_NAME, record)
    return DatasetOutcome(name, EVALUATED, results=results)


def _find(cfg: CfgNode, name: str, allow_incomplete: bool) -> tuple[str, str, int]:
    """State and detail where the data set cannot be evaluated, else "", "" and its images."""
    override, metadata = cfg.VOCABULARY.TEST, MetadataCatalog.get(name)
    if override in CLASS_LIST_VARIANTS:
        try:
            class_list_variant(metadata.get("class_list", ""), override)
        except ValueError as error:
            return SKIPPED, str(error), 0
    try:
        num_images = len(DatasetCatalog.get(name))
    except FileNotFoundError as error:
        return SKIPPED, f"not prepared: {error}", 0
    except (AssertionError, OSError, ValueError) as error:
        # Detectron2's own loader asserts that there are label maps.
        return FAILED, str(error) or f"{type(error).__name__} when listing the files", 0
    expected = metadata.get("expected_images")
    if expected not in (None, num_images) and not allow_incomplete:
        detail = f"{num_images} labelled images, expected {expected}: incomplete, so not evaluated."
        return FAILED, detail, num_images
    return "", "", num_images


def _run_model(cfg: CfgNode, model: nn.Module, name: str) -> str:
    """Writes a data set's results; returns, on all processes, what failed on one of them, or ""."""
    error, evaluator = "", None
    try:
        evaluator = Trainer.build_evaluator(cfg, name)
        loader = build_test_loader(cfg, name)
        device = next(model.parameters()).device
        with preserved_random_state(), autocast(device, INFERENCE_DTYPES[cfg.TEST.DTYPE]):
            _process(model, loader, evaluator)
    except FAILURES as failure:
        error = _describe(name, failure)
    # Before the evaluators meet: one that failed would be waited for without end.
    error = _first_error(error)
    if error:
        return error
    try:
        evaluator.evaluate()
    except FAILURES as failure:
        error = _describe(name, failure)
    return _first_error(error)


def _describe(name: str, failure: BaseException) -> str:
    logger.exception("%s failed.", name)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return f"{type(failure).__name__}: {failure}"


def _first_error(error: str) -> str:
    return next((text for text in comm.all_gather(error) if text), "")


def _process(model: nn.Module, loader: DataLoader, evaluator: DatasetEvaluator) -> None:
    evaluator.reset()
    with inference_context(model), torch.no_grad():
        for number, batch in enumerate(loader, start=1):
            evaluator.process(batch, model(batch))
            if number % _LOG_PERIOD == 0 or number == len(loader):
                logger.info("Batch %d of %d.", number, len(loader))


def run_record(cfg: CfgNode, name: str, weights: str, num_images: int) -> dict[str, Any]:
    """What the results of a data set depend on.

    Args:
        cfg: the configuration.
        name: of the data set.
        weights: the file of the weights, the name of shipped ones, or "" where CLIP's and SAM's own
            make the model.
        num_images: of the data set.

    Raises:
        ValueError: the class list does not fit the data set.
        FileNotFoundError: it does not exist.
    """
    settings = {
        node: {key: value for key, value in cfg[node].items() if key not in _IRRELEVANT[node]}
        for node in _IRRELEVANT
    }
    settings["INPUT"] = {key: cfg.INPUT[key] for key in _INPUT_KEYS}
    settings["VOCABULARY"] = dict(cfg.VOCABULARY)
    settings["TRAIN"] = list(cfg.DATASETS.TRAIN)
    # What it says and not its name: class lists may be files.
    vocabulary = vocabulary_of_dataset(
        name, override=class_list_setting(cfg, is_train=False), synonyms=synonym_mode(cfg)
    )
    sources = [weights] if weights else [cfg.MODEL.CLIP.WEIGHTS, cfg.MODEL.SAM.WEIGHTS]
    return {
        "weights": [_file_stamp(source) for source in sources],
        "settings": _digest(settings),
        "vocabulary": _digest(asdict(vocabulary)),
        "num_images": num_images,
    }


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_stamp(weights: str) -> dict[str, Any]:
    """A file by path, size and time; what is none (a tag of open_clip, an address) by name."""
    path = Path(model_weights_path(weights))
    if not path.is_file():
        return {"name": weights}
    stat = path.stat()
    return {"file": str(path.resolve()), "bytes": stat.st_size, "time": stat.st_mtime_ns}


def _finished_results(folder: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """Earlier results of the same weights, settings and number of images."""
    try:
        earlier = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        results = json.loads((folder / _RESULTS_NAME).read_text(encoding="utf-8"))
        digest = sha256_of(folder / _RESULTS_NAME)
    except (OSError, ValueError):
        return None
    # Another evaluation into this folder replaces the results and leaves the record.
    if earlier != {**record, "results": digest}:
        logger.info("%s holds results of other weights or settings: evaluating anew.", folder)
        return None
    return results


def _agreed(value: Any) -> Any:
    """The first process's value on all processes, which may see the disk at other moments."""
    return comm.all_gather(value)[0]
