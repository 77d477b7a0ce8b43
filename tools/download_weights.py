#!/usr/bin/env python
"""Fetches released weights, for machines whose nodes have no network.

::

    python tools/download_weights.py        # SAM ViT-B, CLIP ViT-B/16 and ViT-L/14-336
    python tools/download_weights.py --cache weights sam_vit_b ViT-B-16:laion2b_s34b_b88k

They go to the caches of Hugging Face (HF_HOME) and torch.hub (TORCH_HOME), with --cache into a
folder to copy. Exit code: 0 when all files are there and sound, 1 when one is not, 2 for a usage
error.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence


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
        _use_cache(os.path.abspath(os.path.expanduser(options.cache)))
    # huggingface_hub reads HF_HOME when it is imported.
    from escnet_d2.weights import (
        RELEASED_NAMES,
        WeightsError,
        fetch,
        find_released,
        released_file,
        verify,
    )

    if options.list:
        for name, path in find_released().items():
            print(f"{name}: {path or 'not here'} ({released_file(name).origin})")
        return 0
    try:
        wanted = [released_file(name) for name in options.names or RELEASED_NAMES]
    except WeightsError as error:
        parser.error(str(error))
    failures = 0
    for file in wanted:
        try:
            path = file.find() if options.verify else fetch(file)
            if path is None:
                raise WeightsError(f"{file.name} is not here: no file at {file.place}.")
            if options.verify:
                verify(file, path)
        except WeightsError as error:
            print(error, file=sys.stderr)
            failures += 1
        else:
            print(f"{file.name}: {path}")
    if options.cache and not failures:
        print("Where this folder has no network:")
        for variable in ("HF_HOME", "TORCH_HOME"):
            print(f"export {variable}={os.environ[variable]}")
        print("export HF_HUB_OFFLINE=1")
    return 1 if failures else 0


def _use_cache(folder: str) -> None:
    os.environ["HF_HOME"] = os.path.join(folder, "huggingface")
    os.environ["TORCH_HOME"] = os.path.join(folder, "torch")
    # They would win over HF_HOME.
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        os.environ.pop(variable, None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Fetches released weights and verifies them (docs/weights.md)."
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="sam_vit_b, clip_vit_b_16, clip_vit_l_14_336 (all of them by default), sam_vit_l, "
        "sam_vit_h, cat_seg_vitb16, cat_seg_vitl14, or MODEL:TAG of open_clip",
    )
    parser.add_argument(
        "--cache", metavar="DIR", help="put them there, in place of HF_HOME and TORCH_HOME"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="show what is here, fetch nothing")
    action.add_argument("--verify", action="store_true", help="hash the files again, fetch nothing")
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())
