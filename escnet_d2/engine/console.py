"""Output of a program: progress and one-line errors on the console, everything in log.txt."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

import torch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from escnet_d2.weights import WeightsError

from .evaluation_run import EvaluationError, error_in_traceback

# A diverged training is a fault of its settings, but found only after hours: not a usage error.
EXIT_FAILED, EXIT_USAGE_ERROR, EXIT_INTERRUPTED = 1, 2, 130

_LOGGERS = ("escnet_d2", "detectron2", "fvcore")
# Only these say things below a warning on the console: progress, results, files that are written.
_SPOKEN = (
    "escnet_d2.commands",
    "escnet_d2.data",
    "escnet_d2.engine",
    "escnet_d2.evaluation",
    "escnet_d2.weights",
    "detectron2.engine.hooks",
    "detectron2.evaluation.evaluator",
    "detectron2.utils.events",
)
# The traceback of the exception that the program is about to end with; "has no VERSION" of files.
_SILENT = ("detectron2.engine.train_loop", "detectron2.config.compat")

logger = logging.getLogger(__name__)


def start_console_log() -> None:
    """Sends messages to the console of the main process, in color if it is a terminal."""
    # Of a machine without a GPU that has CUDA's compiler: nothing is compiled here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    if not comm.is_main_process():
        return
    for name in _LOGGERS:
        logger = setup_logger(name=name, color=sys.stdout.isatty())
        for handler in logger.handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.addFilter(is_for_the_console)


def start_file_log(output_dir: str) -> None:
    """Writes every message to ``<output_dir>/log.txt``; other processes have files of their own."""
    for name in _LOGGERS:
        setup_logger(
            output_dir, distributed_rank=comm.get_rank(), name=name, configure_stdout=False
        )


@contextmanager
def held_messages(level: int = logging.INFO) -> Iterator[None]:
    """Holds plain messages back until :func:`release_messages`; those of an error never come.

    For programs without a ``log.txt``, whose usage errors would otherwise follow the messages of
    what went well.

    Args:
        level: of the package's messages; its models, of which nothing trains, only warn.
    """
    root, shown = logging.getLogger(), logging.StreamHandler()
    # Nothing but release_messages lets it speak, the end of the program included.
    held = MemoryHandler(10_000, flushLevel=logging.CRITICAL, target=shown, flushOnClose=False)
    root.addHandler(held)
    logging.getLogger("escnet_d2").setLevel(level)
    logging.getLogger("escnet_d2.modeling").setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(held)
        root.removeHandler(shown)


def release_messages() -> None:
    """Shows what :func:`held_messages` holds back, and from now on all messages at once."""
    root = logging.getLogger()
    for held in [handler for handler in root.handlers if isinstance(handler, MemoryHandler)]:
        root.removeHandler(held)
        root.addHandler(held.target)
        held.flush()


def is_for_the_console(record: logging.LogRecord) -> bool:
    """Returns whether a person needs a message that the file has anyway."""
    if record.name in _SILENT:
        return False
    if record.levelno >= logging.WARNING:
        return True
    return record.levelno == logging.INFO and record.name.startswith(_SPOKEN)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the program with one line where a file, key or value that it was given is at fault.

    Programming errors keep their traceback; that of an error in one line goes to ``log.txt``.

    Raises:
        SystemExit: with code 2 for ``ValueError``, ``OSError`` and ``WeightsError``, 1 for
            ``FloatingPointError`` (a loss that is infinite or NaN) and memory, 130 for Ctrl-C; an
            ``EvaluationError`` counts as what caused it.
    """
    try:
        yield
    except (OSError, ValueError, WeightsError) as error:
        report_error(error)
        sys.exit(EXIT_USAGE_ERROR)
    except EvaluationError as error:
        report_error(error)
        is_input = isinstance(error.__cause__, (OSError, ValueError))
        sys.exit(EXIT_USAGE_ERROR if is_input else EXIT_FAILED)
    except FloatingPointError as error:
        report_error(error)
        sys.exit(EXIT_FAILED)
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        cure = "smaller images, INPUT.CROP.SIZE and SOLVER.IMS_PER_BATCH need less"
        report_error(MemoryError(f"out of memory: {error}; {cure}"))
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        _report("interrupted.")
        sys.exit(EXIT_INTERRUPTED)


def report_error(error: Exception) -> None:
    """Says in one line on stderr what the program ends with."""
    _report(f"error: {_one_line(error)}")


def _report(text: str) -> None:
    logger.debug("The program ends with: %s", text, exc_info=True)
    program = Path(sys.argv[0]).name.replace("__main__.py", "escnet-d2")
    sys.stderr.write(f"{program}: {text}\n")


def _one_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "Original Traceback" in text:
        # Of a data loader's worker.
        name, _, message = error_in_traceback(text).partition(": ")
        text = message or name
    return " ".join(text.split())
