"""SHA-256 of large files, computed once per file and recorded in a stamp.

Hashing a few hundred megabytes at each start is slow. A stamp holds the digest with the size and
the modification time that it was computed for, and counts only while both still hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import uuid
from pathlib import Path

from .cache import STAMP_SUFFIX, cache_dir

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 4 * 1024 * 1024
_HEX_DIGITS = frozenset("0123456789abcdef")
SHA256_LENGTH = 64


def sha256_of(path: Path) -> str:
    """Hashes a file, without looking at its stamp.

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


def recorded_sha256(path: Path, *, rehash: bool = False) -> str:
    """SHA-256 of a file, from its stamp when the file has not changed since.

    Args:
        path: the file.
        rehash: read the whole file even if a stamp is there, and renew the stamp.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    recorded = "" if rehash else _read_stamp(path)
    if recorded:
        return recorded
    digest = sha256_of(path)
    record_sha256(path, digest)
    return digest


def record_sha256(path: Path, digest: str) -> None:
    """Writes the stamp of a file whose digest is known.

    A folder that cannot be written to (a shared, read-only cache) is no error: the file is then
    hashed at each start.

    Args:
        path: the file as it is now.
        digest: its SHA-256.
    """
    stamp = stamp_path(path)
    partial = stamp.with_name(f"{stamp.name}.{uuid.uuid4().hex}")
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(f"{_fingerprint(path)}\n{digest}  {path.name}\n", encoding="utf-8")
        os.replace(partial, stamp)
    except OSError as error:
        logger.debug("No stamp for %s: %s", path, error)
        with contextlib.suppress(OSError):
            partial.unlink()


def stamp_path(path: Path) -> Path:
    """Where the stamp of a file is.

    Beside the file inside our cache, so that it travels with a copied folder; files that belong to
    other programs have theirs in our cache, whose name then carries a digest of their path.

    Args:
        path: the file.

    Returns:
        A path that ends in ``.sha256``; ``sha256sum --check`` can read the file.
    """
    cache = cache_dir()
    path = path.absolute()
    if cache in path.parents:
        return path.with_name(path.name + STAMP_SUFFIX)
    owner = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return cache / "elsewhere" / f"{path.name}-{owner}{STAMP_SUFFIX}"


def matches(digest: str, expected: str) -> bool:
    """Whether a digest is the expected one.

    Args:
        digest: a full SHA-256.
        expected: a full SHA-256, or its first digits; nothing expected accepts every digest.
    """
    return digest.startswith(expected.lower())


def is_sha256(text: str) -> bool:
    """Whether a text has the form of a full SHA-256 (lower-case hexadecimal)."""
    return len(text) == SHA256_LENGTH and _HEX_DIGITS.issuperset(text)


def _fingerprint(path: Path) -> str:
    # A comment to sha256sum.
    status = path.stat()
    return f"# size={status.st_size} mtime_ns={status.st_mtime_ns}"


def _read_stamp(path: Path) -> str:
    try:
        fingerprint, line = stamp_path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    digest = line.partition(" ")[0]
    return digest if fingerprint == _fingerprint(path) and is_sha256(digest) else ""
