"""Checks data sets file by file: ``python -m escnet_d2.data.check NAME...``.

For any registered data set, and for folders with ``dataset.json``: missing files, images that
cannot be read, sizes that differ, label values outside the classes, classes that never occur.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from escnet_d2.io import write_json

from .dataset_check import DatasetReport, check_dataset, find_datasets
from .datasets.builtin import dataset_status
from .datasets.mess import register_mess_datasets

BENCHMARKS = "benchmarks"
_MAX_LISTED = 10
EXIT_OK, EXIT_PROBLEMS, EXIT_WRONG_USE = 0, 1, 2


def argument_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m escnet_d2.data.check",
        description="Reads every file of data sets, and says what is missing or wrong.",
        epilog="Exit code: 0 all is well, 1 something is missing or wrong, 2 wrong use.",
    )
    add = parser.add_argument
    add(
        "names",
        nargs="+",
        metavar="NAME",
        help=f"a registered data set, a folder with dataset.json, or '{BENCHMARKS}': all eight",
    )
    add("--root", type=Path, help="where the benchmarks are (default $DETECTRON2_DATASETS)")
    add("--num-workers", type=int, default=0, metavar="N", help="processes to read with")
    add("--headers-only", action="store_true", help="do not decode images, only their headers")
    add("--json", type=Path, metavar="FILE", help="write all that was found, class by class")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code.
    """
    args = argument_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        names = _names(args.names)
        reports = [
            check_dataset(
                name,
                num_workers=args.num_workers,
                headers_only=args.headers_only,
                root=None if args.root is None else args.root.expanduser().absolute(),
            )
            for name in names
        ]
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_WRONG_USE
    sys.stdout.write(render(reports))
    if args.json:
        write_json(args.json, [report.as_dict() for report in reports])
    return EXIT_PROBLEMS if any(report.problems for report in reports) else EXIT_OK


def render(reports: Sequence[DatasetReport]) -> str:
    """A table over the data sets, then what is wrong with each.

    Args:
        reports: of :func:`escnet_d2.data.dataset_check.check_dataset`.
    """
    rows = []
    for report in reports:
        tally = report.tally
        pixels = int(tally.class_pixels.sum()) + tally.unlabelled_pixels
        rows.append(
            [
                report.name,
                report.num_images,
                "-" if report.expected_images is None else report.expected_images,
                ", ".join(sorted(tally.label_types)) or "-",
                f"{tally.num_classes - len(report.absent_classes)} of {tally.num_classes}",
                f"{100 * tally.unlabelled_pixels / pixels:.1f} %" if pixels else "-",
                len(report.problems) or "none",
            ]
        )
    headers = ["data set", "images", "expected", "labels", "classes", "unlabelled", "problems"]
    lines = [tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)]
    for report in reports:
        if report.problems:
            lines += ["", f"{report.name}:", *_shortened(report.problems)]
        absent = report.absent_classes
        if absent and report.num_images:
            first = ", ".join(absent[:_MAX_LISTED]) + (", ..." if len(absent) > _MAX_LISTED else "")
            lines += ["", f"{report.name}: {len(absent)} classes never occur: {first}"]
    return "\n".join(lines) + "\n"


def _names(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        if name == BENCHMARKS:
            found += [status.name for status in dataset_status()]
        else:
            register_mess_datasets([name])
            found += find_datasets(name)
    return list(dict.fromkeys(found))


def _shortened(problems: Sequence[str]) -> list[str]:
    rest = len(problems) - _MAX_LISTED
    return [f"  {problem}" for problem in problems[:_MAX_LISTED]] + (
        [f"  ... and {rest} more."] if rest > 0 else []
    )


if __name__ == "__main__":
    sys.exit(main())
