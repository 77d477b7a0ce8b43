"""The log of a run: all of it in OUTPUT_DIR/log.txt, on the console what a person needs."""

from __future__ import annotations

import logging
import sys

from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

_LOGGERS = ("escnet_d2", "detectron2", "fvcore")
# Only these say things below a warning on the console: progress, results, files that are written.
_SPOKEN = (
    "escnet_d2.data",
    "escnet_d2.engine",
    "escnet_d2.evaluate_all",
    "escnet_d2.evaluation",
    "escnet_d2.weights",
    "detectron2.engine.hooks",
    "detectron2.evaluation.evaluator",
    "detectron2.utils.events",
)

# The traceback of the exception that the program is about to end with; "has no VERSION" of files.
_SILENT = ("detectron2.engine.train_loop", "detectron2.config.compat")


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


def is_for_the_console(record: logging.LogRecord) -> bool:
    """Tells what a person needs from what belongs to the file alone."""
    if record.name in _SILENT:
        return False
    if record.levelno >= logging.WARNING:
        return True
    return record.levelno == logging.INFO and record.name.startswith(_SPOKEN)
