"""One line instead of a traceback where a program's input is at fault."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from escnet_d2.weights import WeightsError

# A diverged training is a fault of its settings, but found only after hours: not a usage error.
EXIT_FAILED, EXIT_USAGE_ERROR, EXIT_INTERRUPTED = 1, 2, 130

logger = logging.getLogger(__name__)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the program with one line where a file, key or value that it was given is at fault.

    Programming errors keep their traceback; that of an error in one line goes to ``log.txt``.

    Raises:
        SystemExit: with code 2 for ``ValueError``, ``OSError`` and ``WeightsError``, 1 for
            ``FloatingPointError`` (a loss that is infinite or NaN) and 130 for Ctrl-C.
    """
    try:
        yield
    except (OSError, ValueError, WeightsError) as error:
        _report(f"error: {_one_line(error)}")
        sys.exit(EXIT_USAGE_ERROR)
    except FloatingPointError as error:
        _report(f"error: {_one_line(error)}")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        _report("interrupted.")
        sys.exit(EXIT_INTERRUPTED)


def _report(text: str) -> None:
    logger.debug("The program ends with: %s", text, exc_info=True)
    sys.stderr.write(f"{Path(sys.argv[0]).name}: {text}\n")


def _one_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "Original Traceback" in text:
        # Of a data loader's worker: the last line is "ValueError: what was wrong".
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())
