"""Fetches a file from a plain address into the cache: whole and verified, or not at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import portalocker
from portalocker.exceptions import AlreadyLocked, LockException
from tqdm import tqdm

from .cache import CACHE_VARIABLE, LOCK_SUFFIX, PARTIAL_SUFFIX, cache_dir
from .catalog import WeightsFile
from .checksum import matches, record_sha256
from .errors import DownloadError, WeightsError
from .file_type import identify
from .locate import find_cached

logger = logging.getLogger(__name__)

# Seconds that a server may be silent, at first and later on.
TIMEOUT_SECONDS = 15.0
# Seconds to wait for another process that is fetching the same file.
LOCK_SECONDS = 3600.0
_CHUNK_BYTES = 1024 * 1024
_STALE_PARTIAL_SECONDS = 24 * 3600.0
# What a system answers where another process holds a lock.
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)


def download(file: WeightsFile) -> Path:
    """Fetches a file into the cache, unless another process just did.

    Args:
        file: what to fetch; its addresses are tried in order.

    Returns:
        The path in the cache.

    Raises:
        DownloadError: no address gave the right file; nothing is left behind.
        WeightsError: the cache cannot be written to.
    """
    target = cache_dir() / file.filename
    with _locked(target):
        cached = find_cached(file)
        if cached is not None:
            return cached
        failures = []
        for url in file.urls:
            try:
                return _download_url(url, file, target)
            except DownloadError as error:
                failures.append(str(error))
    raise DownloadError("\n".join(failures))


def copy_into_cache(path: Path, file: WeightsFile) -> Path:
    """Copies a file that another program keeps on this machine into the cache.

    Args:
        path: the file.
        file: what it must be.

    Returns:
        The path in the cache.

    Raises:
        DownloadError: it is not what it must be, or cannot be read.
        WeightsError: the cache cannot be written to.
    """
    target = cache_dir() / file.filename
    with _locked(target):
        try:
            with open(path, "rb") as source:
                return _store(source, path.stat().st_size, str(path), file, target)
        except OSError as error:
            raise DownloadError(f"{path}: {error}") from error


def _download_url(url: str, file: WeightsFile, target: Path) -> Path:
    logger.info("Downloading %s to %s", url, target)
    request = urllib.request.Request(url, headers={"User-Agent": "escnet_d2"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length")
            return _store(response, int(length) if length else None, url, file, target)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {error or type(error).__name__}") from error


def _store(
    source: BinaryIO, announced: int | None, origin: str, file: WeightsFile, target: Path
) -> Path:
    """Writes a stream beside the target and renames it when all of it is there and right."""
    _remove_stale_partials(target)
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        # Not tempfile: its files are private, and a cache may be shared.
        with open(partial, "xb") as output:
            digest = _copy(source, output, announced, file.filename)
            output.flush()
            os.fsync(output.fileno())
        _check(partial, digest, announced, origin, file)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    record_sha256(target, digest)
    return target


def _copy(source: BinaryIO, output: BinaryIO, total: int | None, description: str) -> str:
    digest = hashlib.sha256()
    # Without a terminal (a cluster's log file) there is no bar: disable=None.
    with tqdm(total=total, desc=description, unit="B", unit_scale=True, disable=None) as bar:
        while chunk := source.read(_CHUNK_BYTES):
            output.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _check(
    partial: Path, digest: str, announced: int | None, origin: str, file: WeightsFile
) -> None:
    size = partial.stat().st_size
    if announced is not None and size < announced:
        raise DownloadError(f"{origin}: the transfer broke off after {size} of {announced} bytes.")
    file_type = identify(partial)
    if not file_type.can_hold_weights:
        raise DownloadError(f"{origin}: what arrived ({size} bytes) is {file_type.value}.")
    if not matches(digest, file.sha256):
        raise DownloadError(
            f"{origin}: wrong checksum. {size} bytes arrived with SHA-256 {digest}, "
            f"expected {file.sha256}."
        )
    if not file.sha256:
        logger.warning("%s: no checksum is published for it; its SHA-256 is %s.", origin, digest)


def _remove_stale_partials(target: Path) -> None:
    # A killed download leaves its partial file. Young ones may belong to a process on another
    # machine, if the file system does not pass locks on.
    for leftover in target.parent.glob(f"{target.name}.*{PARTIAL_SUFFIX}"):
        if time.time() - leftover.stat().st_mtime > _STALE_PARTIAL_SECONDS:
            leftover.unlink(missing_ok=True)


def _system_error(error: BaseException) -> OSError | None:
    """What the system said, in the chain of errors that led to this one."""
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, OSError):
        chain = chain.__cause__ or chain.__context__
    return chain


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Lets one process at a time fetch a file; makes the folder of the file."""
    lock_path = target.with_name(target.name + LOCK_SUFFIX)
    lock = portalocker.Lock(str(lock_path), timeout=LOCK_SECONDS, check_interval=0.25)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(fail_when_locked=True)
        except AlreadyLocked as error:
            # portalocker < 4 says so of any failure, as where a file system has no locks.
            failure = _system_error(error)
            if failure is not None and failure.errno not in _HELD_BY_ANOTHER:
                raise LockException(str(failure)) from error
            logger.info("Waiting for another process that is fetching %s.", target)
            lock.acquire(fail_when_locked=False)
    except OSError as error:
        raise WeightsError(
            f"Cannot write to the cache folder {target.parent} ({error}): set {CACHE_VARIABLE} to "
            "a folder that can be written to."
        ) from error
    except LockException as error:
        raise WeightsError(
            f"Cannot lock {lock_path} ({error}): another process holds it, or the file system has "
            f"no locks; set {CACHE_VARIABLE} to a folder on another one."
        ) from error
    try:
        yield
    finally:
        lock.release()
