"""SHA-256 of files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_CHUNK_BYTES = 4 * 1024 * 1024


def sha256_of(path: Path) -> str:
    """Hashes a file; returns 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def is_sha256(text: str) -> bool:
    """Returns whether a text has the form of a SHA-256 in lower case."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None
