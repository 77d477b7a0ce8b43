"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

_CHUNK_BYTES = 4 * 1024 * 1024
_HEX_DIGITS = frozenset("0123456789abcdef")


def sha256_of(path: Path) -> str:
    """Hashes a file.

    Args:
        path: the file.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def is_sha256(text: str) -> bool:
    """Returns whether a text has the form of a SHA-256 in lower case."""
    return len(text) == 64 and _HEX_DIGITS.issuperset(text)
