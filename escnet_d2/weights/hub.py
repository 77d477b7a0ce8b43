"""Files of Hugging Face repositories, kept in our cache in huggingface_hub's own layout."""

from __future__ import annotations

import http.client
import logging
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from .cache import hub_cache_dir
from .catalog import HubFile
from .checksum import is_sha256, matches, recorded_sha256
from .errors import DownloadError

logger = logging.getLogger(__name__)

# Seconds that the server may take to answer.
TIMEOUT_SECONDS = 15.0


def find_in_hub_cache(
    file: HubFile, *, rehash: bool = False, only_ours: bool = False
) -> Path | None:
    """Looks for a file in our cache, then in the one that huggingface_hub keeps for all programs.

    Args:
        file: what to look for.
        rehash: read the whole file even if it was verified before.
        only_ours: leave the common cache out.

    Returns:
        Its path, or None when it is missing or has not the SHA-256 that its repository states.
    """
    from huggingface_hub import try_to_load_from_cache

    for folder in (hub_cache_dir(),) if only_ours else (hub_cache_dir(), None):
        for filename in file.filenames:
            found = try_to_load_from_cache(file.repo_id, filename, cache_dir=folder)
            if isinstance(found, str) and _is_genuine(Path(found), rehash=rehash):
                return Path(found)
    return None


def download_from_hub(file: HubFile) -> Path:
    """Fetches a file of a Hugging Face repository into our cache.

    Args:
        file: what to fetch; the first of its formats that the repository has.

    Returns:
        The path in the cache.

    Raises:
        DownloadError: the repository cannot be reached, has none of the formats, or what arrived
            does not have the SHA-256 that it states.
    """
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    _require_connection(file)
    for filename in file.filenames:
        try:
            return _download_verified(file.repo_id, filename)
        except LocalEntryNotFoundError as error:
            # An EntryNotFoundError too, but it says that the network failed.
            raise DownloadError(f"Hugging Face, {file.repo_id}/{filename}: {error}") from error
        except EntryNotFoundError:
            logger.debug("%s has no %s", file.repo_id, filename)
        except DownloadError:
            raise
        except Exception as error:
            # huggingface_hub passes on the errors of whichever HTTP client it uses; they have no
            # base class in common.
            raise DownloadError(f"Hugging Face, {file.repo_id}/{filename}: {error}") from error
    raise DownloadError(f"Hugging Face, {file.repo_id}: has none of {', '.join(file.filenames)}.")


def _require_connection(file: HubFile) -> None:
    # Without network huggingface_hub retries for half a minute before it says so.
    from huggingface_hub import constants, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        return
    url = hf_hub_url(file.repo_id, file.filenames[0])
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as answer:
        logger.debug("%s answers %s", url, answer)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):
            # There is a network. huggingface_hub trusts other certificates than Python.
            logger.debug("%s: %s", url, error)
            return
        raise DownloadError(f"{url}: {error}") from error


def _download_verified(repo_id: str, filename: str) -> Path:
    from huggingface_hub import hf_hub_download

    # The second attempt is for a file that was in the cache, but damaged.
    for force in (False, True):
        path = hf_hub_download(
            repo_id,
            filename,
            cache_dir=hub_cache_dir(),
            etag_timeout=TIMEOUT_SECONDS,
            force_download=force,
            library_name="escnet_d2",
        )
        if _is_genuine(Path(path)):
            return Path(path)
    raise DownloadError(f"Hugging Face, {repo_id}/{filename}: what arrived has a wrong SHA-256.")


def _is_genuine(path: Path, *, rehash: bool = False) -> bool:
    # The cache names the content of a large file by the entity tag that the repository gave for it,
    # which is its SHA-256. On a file system without symbolic links that name is lost.
    expected = path.resolve().name
    if not is_sha256(expected):
        logger.debug("%s: the cache does not know its SHA-256", path)
        return True
    if matches(recorded_sha256(path, rehash=rehash), expected):
        return True
    logger.warning("%s is damaged: its SHA-256 is not %s.", path, expected)
    return False
