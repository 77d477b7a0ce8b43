#!/usr/bin/env python
"""Writes the label maps of benchmarks from what their owners ship, or checks them.

python tools/prepare_dataset.py ade20k_150 voc --num-workers 8
python tools/prepare_dataset.py --list
python tools/prepare_dataset.py --check

docs/datasets.md says which archives are needed and where they are unpacked. Label maps that exist
are kept, so that an interrupted run goes on where it stopped; after replacing the archives' files,
use --force.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from escnet_d2.data import dataset_status
from escnet_d2.data.check import render
from escnet_d2.data.dataset_check import check_dataset
from escnet_d2.data.datasets import all_datasets
from escnet_d2.data.prepare import PREPARATIONS, LabelWriter
from escnet_d2.data.sem_seg_dataset import datasets_root

ALL = "all"


def argument_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 all is complete, 1 something is missing or wrong, 2 usage error.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    known = ", ".join(PREPARATIONS)
    add("names", nargs="*", metavar="NAME", help=f"any of {known}; or {ALL}: what there is")
    add("--list", action="store_true", help="say which archives are needed and where to get them")
    add("--check", action="store_true", help="read what was written, and write nothing")
    add("--root", type=Path, help="folder of the data sets (default $DETECTRON2_DATASETS)")
    add("--num-workers", type=int, default=0, metavar="N", help="processes to work with")
    add("--force", action="store_true", help="write label maps that exist as well")
    return parser


def print_archives(root: Path, names: list[str]) -> None:
    """Prints what each preparation reads."""
    for name in names:
        print(f"{name}: writes {', '.join(PREPARATIONS[name].datasets)}")
        for archive in PREPARATIONS[name].archives:
            print(f"    {archive.how_to_get(root)} Terms: {archive.terms}.")


def check(root: Path, names: list[str], num_workers: int, *, skip_missing: bool) -> bool:
    """Reads all files, prints a table, and returns whether all data sets are complete and sound.

    Args:
        root: folder of the data sets.
        names: keys of ``PREPARATIONS``.
        num_workers: processes beside this one.
        skip_missing: a data set without its folder of label maps is not a failure, unless all are.
    """
    wanted = [dataset for name in names for dataset in PREPARATIONS[name].datasets]
    if skip_missing:
        known = all_datasets()
        prepared = [name for name in wanted if os.path.isdir(known[name].folders(root)[1])]
        for name in wanted:
            if name not in prepared:
                print(f"{name}: skipped, not prepared", file=sys.stderr)
        if not prepared:
            print(f"Nothing is prepared in {root}.", file=sys.stderr)
            return False
        wanted = prepared
    reports = [check_dataset(name, num_workers=num_workers, root=root) for name in wanted]
    print(render(reports), end="")
    return not any(report.problems for report in reports)


def prepare(writer: LabelWriter, names: list[str], *, skip_missing: bool) -> bool:
    """Runs the preparations, prints the state of each data set, and returns whether all are fine.

    Args:
        writer: where and how.
        names: keys of ``PREPARATIONS``.
        skip_missing: what has no archive is not a failure.
    """
    complete = True
    for name in names:
        try:
            datasets = PREPARATIONS[name].run(writer)
        except FileNotFoundError as error:
            print(f"{name}: {'skipped' if skip_missing else 'error'}: {error}", file=sys.stderr)
            complete = complete and skip_missing
            continue
        except (OSError, ValueError, RuntimeError) as error:
            print(f"{name}: error: {error}", file=sys.stderr)
            complete = False
            continue
        for dataset, (num_images, problem) in dataset_status(writer.root, datasets).items():
            print(f"{dataset}: {problem or f'{num_images} images, complete'}")
            complete = complete and not problem
    return complete


def main(arguments: list[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    parser = argument_parser()
    args = parser.parse_args(arguments)
    unknown = [name for name in args.names if name not in (*PREPARATIONS, ALL)]
    if unknown or not (args.names or args.check or args.list):
        parser.error(f"name any of {', '.join(PREPARATIONS)} or {ALL}; got {unknown or 'none'}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    everything = not args.names or ALL in args.names
    names = list(PREPARATIONS) if everything else list(dict.fromkeys(args.names))
    root = (args.root or datasets_root()).expanduser().absolute()
    if args.root and not root.is_dir():
        parser.error(f"--root {root} is not a folder")
    if args.list:
        print_archives(root, names)
        return 0
    if args.check:
        return 0 if check(root, names, args.num_workers, skip_missing=everything) else 1
    writer = LabelWriter(root, num_workers=args.num_workers, force=args.force)
    return 0 if prepare(writer, names, skip_missing=everything) else 1


if __name__ == "__main__":
    sys.exit(main())
