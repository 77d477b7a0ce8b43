"""Fetches released weights into the cache folder, for machines whose nodes have no network.

Run it where there is network, then copy the folder, or set ESCNET_CACHE to it:

    python tools/download_weights.py        # SAM ViT-B, CLIP ViT-B/16 and ViT-L/14-336
    python tools/download_weights.py --cache /shared/weights sam_vit_b
    python tools/download_weights.py ViT-B-16:laion2b_s34b_b88k

Exit code: 0 when all files are there and sound, 1 when one is not, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from escnet_d2.weights import (
    DEFAULT_NAMES,
    WeightsError,
    WeightsFile,
    cache_dir,
    cached_files,
    fetch_into_cache,
    sources_of,
    verify_cached,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: what follows the name of the program; from the process by default.

    Returns:
        The exit code.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.cache:
        os.environ["ESCNET_CACHE"] = options.cache
    if options.list:
        _list()
        return 0
    names = options.names or DEFAULT_NAMES
    try:
        wanted = {name: sources_of(name) for name in names}
    except WeightsError as error:
        parser.error(str(error))
    failures = {}
    for name, sources in wanted.items():
        try:
            path = verify_cached(sources, rehash=True) if options.verify else None
            if path is None and options.verify:
                raise WeightsError(f"{name} is missing or damaged in {cache_dir()}.")
            path = path or fetch_into_cache(sources)
        except WeightsError as error:
            failures[name] = error
            print(f"{name}: failed", flush=True)
        else:
            print(f"{name}: {path}", flush=True)
    for name, error in failures.items():
        print(f"\n{name}: {error}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Fetches released weights into the cache folder and verifies them."
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(DEFAULT_NAMES)} (all of them by default), or MODEL:TAG of open_clip",
    )
    parser.add_argument("--cache", metavar="DIR", help="the folder; ESCNET_CACHE by default")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="show what is known and what is here")
    action.add_argument(
        "--verify", action="store_true", help="hash the files again, and download nothing"
    )
    return parser


def _list() -> None:
    print("Known weights:")
    for name in DEFAULT_NAMES:
        for source in sources_of(name):
            if isinstance(source, WeightsFile):
                size = f"{source.size:,} bytes, " if source.size else ""
                print(f"  {name}: {source.filename} ({size}SHA-256 {source.sha256})")
                print("".join(f"    {url}\n" for url in source.urls), end="")
            else:
                print(f"    or https://huggingface.co/{source.repo_id}")
    print(f"Files on this machine (cache folder {cache_dir()}):")
    for file in cached_files():
        print(f"  {file.path} ({file.size:,} bytes) {file.known_as}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())
