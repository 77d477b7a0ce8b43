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
import logging
import sys

from escnet_d2.data.folder_checks import SplitReport, check_folder_dataset
from escnet_d2.data.folder_dataset import write_manifest


def get_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
        "--ignore-label", type=int, default=255, help="value of unlabelled pixels (default 255)"
    )
    parser.add_argument(
        "--allow-unlabelled-values",
        action="store_true",
        help="count values that are neither a class nor the ignore label as unlabelled",
    )
    return parser


def parse_split(text: str) -> tuple[str, tuple[str, str]]:
    """Reads ``SPLIT=IMAGES:LABELS``."""
    split, equals, folders = text.partition("=")
    image_root, colon, sem_seg_root = folders.rpartition(":")
    if not (split and equals and image_root and colon and sem_seg_root):
        raise argparse.ArgumentTypeError(f"expected SPLIT=IMAGES:LABELS, got {text!r}")
    return split, (image_root, sem_seg_root)


def print_statistics(class_names: tuple[str, ...], reports: dict[str, SplitReport]) -> None:
    """Prints one table of class pixels per split."""
    for split, report in reports.items():
        labelled = int(report.class_pixels.sum())
        pixels = max(labelled + report.unlabelled_pixels, 1)
        print(f"\n{split}: {report.split.num_images} images")
        print(f"  {'class':<32} {'pixels':>14} {'share':>8} {'images':>8}")
        for name, count, images in zip(class_names, report.class_pixels, report.class_images):
            print(f"  {name[:32]:<32} {count:>14,} {count / pixels:>8.2%} {images:>8,}")
        unlabelled = report.unlabelled_pixels
        print(f"  {'(unlabelled)':<32} {unlabelled:>14,} {unlabelled / pixels:>8.2%}")
        absent = int((report.class_pixels == 0).sum())
        if absent:
            print(f"  {absent} of {len(class_names)} classes do not occur.")
        for stray in report.stray_values:
            print(f"  taken for unlabelled: {stray}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the program and returns its exit code: 0, or 1 when files cannot be used."""
    parser = get_parser()
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    folders = dict(args.split)
    if len(folders) < len(args.split):
        parser.error("--split names a split twice")
    try:
        manifest, reports = check_folder_dataset(
            name=args.name,
            folders=folders,
            classes=args.classes,
            ignore_label=args.ignore_label,
            allow_unlabelled_values=args.allow_unlabelled_values,
        )
        path = write_manifest(manifest, args.output)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_statistics(manifest.classes, reports)
    names = ", ".join(f"{manifest.name}_{split}" for split in manifest.splits)
    print(f"\nWrote {path}: {names}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
