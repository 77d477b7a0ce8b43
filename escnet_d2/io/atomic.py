"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

# A glob of the files that a killed process leaves beside those that it was writing.
TEMPORARY_FILES = f".{'[0-9a-f]' * 32}.tmp"


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` to write to, and renames it at the end.

    When the block raises, ``path`` stays as it was and the temporary file is removed.

    Args:
        path: the file wanted; its folder is created.

    Yields:
        A path in the same folder, hidden and with the suffix ``.tmp``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are readable by their owner only, whatever the umask.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_text(path: str | os.PathLike) -> Iterator[TextIO]:
    """Gives a file of UTF-8 text to write to, which appears at the end, see :func:`atomic_path`.

    Lone surrogates become escapes of JSON: Python has them in file names that are not UTF-8.
    """
    text = {"encoding": "utf-8", "errors": "backslashreplace"}
    with atomic_path(path) as temporary, temporary.open("w", **text) as file:
        yield file


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes text as :func:`atomic_text` does."""
    with atomic_text(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike, content: object) -> None:
    """Writes plain Python data as standard JSON, atomically.

    Raises:
        ValueError: a number is NaN or infinite: most readers refuse a whole file for it.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
