#!/usr/bin/env python
"""Converts the label maps of benchmarks, or checks what is there; see datasets/README.md.

python datasets/prepare_benchmarks.py coco_stuff ade20k_150 voc
python datasets/prepare_benchmarks.py --check
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from escnet_d2.data import dataset_status
from escnet_d2.data.datasets.prepare import PREPARE
from escnet_d2.data.sem_seg_dataset import datasets_root


def get_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "benchmarks", nargs="*", metavar="BENCHMARK", help=f"any of {', '.join(PREPARE)}"
    )
    parser.add_argument("--check", action="store_true", help="only report what is there")
    parser.add_argument(
        "--root",
        type=Path,
        default=None,
        help="folder of the data sets (default $DETECTRON2_DATASETS or ./datasets)",
    )
    parser.add_argument("--num-workers", type=int, default=0, help="processes to convert with")
    return parser


def print_status(root: Path, names: list[str]) -> bool:
    """Prints a line for each data set named; returns whether all are complete."""
    wanted = [status for status in dataset_status(root) if status.name in names]
    for status in wanted:
        found = status.problem or f"{status.num_images} images, complete"
        print(f"{status.name}: {found}")
    return all(status.is_ready for status in wanted)


def main(arguments: list[str] | None = None) -> int:
    """Runs the program and returns its exit code: 0 when all data sets named are complete."""
    parser = get_parser()
    args = parser.parse_args(arguments)
    unknown = [benchmark for benchmark in args.benchmarks if benchmark not in PREPARE]
    if unknown or not (args.benchmarks or args.check):
        parser.error(f"name benchmarks, any of {', '.join(PREPARE)}; got {unknown or 'none'}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root = (args.root or datasets_root()).expanduser().absolute()
    if args.check:
        return 0 if print_status(root, [status.name for status in dataset_status(root)]) else 1
    names: list[str] = []
    try:
        for benchmark in args.benchmarks:
            names += PREPARE[benchmark](root, num_workers=args.num_workers)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if print_status(root, names) else 1


if __name__ == "__main__":
    sys.exit(main())
