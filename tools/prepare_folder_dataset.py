#!/usr/bin/env python
r"""Checks folders of images and label maps, and describes them as a data set to train on.

    python tools/prepare_folder_dataset.py --name coco_mini --classes classes.json \
        --split train=images/train:annotations/train --split val=images/val:annotations/val \
        --output datasets/coco_mini

No file is copied: OUTPUT/dataset.json refers to the folders. Then train with
DATASETS.FOLDERS "('datasets/coco_mini',)" DATASETS.TRAIN "('coco_mini_train',)"
DATASETS.TEST "('coco_mini_val',)".
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys

from escnet_d2.data.class_lists import read_class_list
from escnet_d2.data.dataset_check import DatasetReport, check_folders, first_lines
from escnet_d2.data.folder_dataset import folder_dataset, write_manifest

logger = logging.getLogger(__name__)

EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE_ERROR = 0, 1, 2


def get_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 written, 1 files cannot be used, 2 usage error.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", required=True, help="the splits will be called NAME_SPLIT")
    parser.add_argument(
        "--split",
        required=True,
        action="append",
        type=parse_split,
        metavar="SPLIT=IMAGES:LABELS",
        help="a split and its folders of images and of label maps; may be given several times",
    )
    parser.add_argument(
        "--classes",
        required=True,
        metavar="FILE",
        help="class names in label order: text (one class per line) or JSON (names, or objects "
        "with a name); further names of a class after commas",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="gets dataset.json")
    parser.add_argument(
        "--ignore-label", type=int, default=255, help="value of unlabeled pixels (default 255)"
    )
    parser.add_argument(
        "--allow-unlabelled-values",
        action="store_true",
        help="count values that are neither a class nor the ignore label as unlabeled",
    )
    return parser


def parse_split(text: str) -> tuple[str, tuple[str, str]]:
    """Reads ``SPLIT=IMAGES:LABELS``."""
    split, equals, folders = text.partition("=")
    image_root, colon, sem_seg_root = folders.rpartition(":")
    if not (split and equals and image_root and colon and sem_seg_root):
        raise argparse.ArgumentTypeError(f"expected SPLIT=IMAGES:LABELS, got {text!r}")
    return split, (image_root, sem_seg_root)


def print_statistics(split: str, report: DatasetReport) -> None:
    """Prints the class pixels of one split, and what may be wrong with it."""
    pixels = max(int(report.class_pixels.sum()) + report.unlabeled_pixels, 1)
    print(f"\n{split}: {report.num_images} images")
    print(f"  {'class':<32} {'pixels':>14} {'share':>8} {'images':>8}")
    for name, count, images in zip(report.class_names, report.class_pixels, report.class_images):
        print(f"  {name[:32]:<32} {count:>14,} {count / pixels:>8.2%} {images:>8,}")
    unlabeled = report.unlabeled_pixels
    print(f"  {'(unlabeled)':<32} {unlabeled:>14,} {unlabeled / pixels:>8.2%}")
    if report.absent_classes:
        absent, known = len(report.absent_classes), len(report.class_names)
        print(f"  {absent} of {known} classes do not occur.")
    for stray in report.stray_values:
        print(f"  taken for unlabeled: {stray}")
    if report.warning:
        logger.warning("%s: %s", split, report.warning)


def prepare(args: argparse.Namespace) -> int:
    """Checks all splits, writes ``dataset.json`` and returns the exit code.

    Raises:
        OSError: a folder or the class list is missing, or the output is another data set's.
        ValueError: a name or the class list is unfit, or a folder is.
    """
    classes = read_class_list(args.classes)
    if 0 <= args.ignore_label < len(classes):
        logger.warning(
            "The ignore label %d is also the class %r, which no pixel will then have.",
            args.ignore_label,
            classes[args.ignore_label],
        )
    splits = {
        split: folder_dataset(
            f"{args.name}_{split}", *folders, classes, ignore_label=args.ignore_label
        )
        for split, folders in args.split
    }
    reports = {split: check_folders(dataset) for split, dataset in splits.items()}
    problems = [problem for report in reports.values() for problem in report.problems]
    if not args.allow_unlabelled_values:
        problems += [stray for report in reports.values() for stray in report.stray_values]
    if problems:
        lines = [f"error: {len(problems)} file(s) cannot be used:", *first_lines(problems)]
        print("\n".join(lines), file=sys.stderr)
        return EXIT_PROBLEMS
    path = write_manifest(
        args.output,
        args.name,
        {
            split: dataclasses.replace(dataset, expected_images=reports[split].num_images)
            for split, dataset in splits.items()
        },
    )
    for split, report in reports.items():
        print_statistics(split, report)
    print(f"\nWrote {path}: {', '.join(dataset.name for dataset in splits.values())}.")
    return EXIT_OK


def main(arguments: list[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    parser = get_parser()
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if len(dict(args.split)) < len(args.split):
        parser.error("--split names a split twice")
    try:
        return prepare(args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
