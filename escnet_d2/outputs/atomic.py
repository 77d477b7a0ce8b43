"""Text and JSON files that are there whole or not at all."""

from __future__ import annotations

import json
import os

from escnet_d2.structures.atomic_file import atomic_path


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes UTF-8 text atomically.

    Args:
        path: the file to write or replace.
        text: file names that are not UTF-8 reach Python as lone surrogates; they are written as
            escapes of JSON.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike, content: object) -> None:
    """Writes standard JSON atomically.

    Args:
        path: the file to write or replace.
        content: plain Python data.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot say.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
