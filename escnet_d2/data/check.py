"""Checks data sets file by file: ``python -m escnet_d2.data.check NAME...``.

For any registered data set, and for folders with ``dataset.json``: missing files, images that
cannot be read, sizes that differ, label values outside the classes, classes that never occur.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate

from escnet_d2.io import write_json

from .dataset_check import DatasetReport, check_dataset, first_lines
from .datasets.builtin_meta import BENCHMARKS
from .datasets.mess import register_mess_datasets
from .folder_dataset import MANIFEST_NAME, register_prepared_folder

_ALL = "benchmarks"
_MAX_ABSENT = 10
EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE_ERROR = 0, 1, 2


def argument_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m escnet_d2.data.check",
        description="Reads every file of data sets, and says what is missing or wrong.",
        epilog="Exit code: 0 all is well, 1 something is missing or wrong, 2 usage error.",
    )
    add = parser.add_argument
    add(
        "names",
        nargs="+",
        metavar="NAME",
        help=f"a registered data set, a folder with dataset.json, or '{_ALL}': all eight",
    )
    add("--root", type=Path, help="where the benchmarks are (default $DETECTRON2_DATASETS)")
    add("--num-workers", type=int, default=0, metavar="N", help="processes to read with")
    add("--headers-only", action="store_true", help="do not decode images, only their headers")
    add("--json", type=Path, metavar="FILE", help="write all that was found, class by class")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    args = argument_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        names = dict.fromkeys(found for name in args.names for found in _datasets(name))
        reports = [
            check_dataset(
                name,
                num_workers=args.num_workers,
                headers_only=args.headers_only,
                root=None if args.root is None else args.root.expanduser().absolute(),
            )
            for name in names
        ]
        if args.json:
            write_json(args.json, [report.as_dict() for report in reports])
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE_ERROR
    sys.stdout.write(render(reports))
    return EXIT_PROBLEMS if any(report.problems for report in reports) else EXIT_OK


def render(reports: Sequence[DatasetReport]) -> str:
    """Returns a table over the data sets, then what is wrong with each."""
    rows = []
    for report in reports:
        num_classes = len(report.class_names)
        rows.append(
            [
                report.name,
                report.num_images,
                "-" if report.expected_images is None else report.expected_images,
                ", ".join(sorted(report.label_types)) or "-",
                f"{num_classes - len(report.absent_classes)} of {num_classes}",
                f"{100 * report.unlabeled_share:.1f} %" if report.num_images else "-",
                len(report.problems) or "none",
            ]
        )
    headers = ["data set", "images", "expected", "labels", "classes", "unlabeled", "problems"]
    lines = [tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)]
    for report in reports:
        if report.problems:
            lines += ["", f"{report.name}:", *first_lines(report.problems)]
        if report.warning:
            lines += ["", f"{report.name}: {report.warning}"]
        absent = report.absent_classes
        if absent and report.num_images:
            first = ", ".join(absent[:_MAX_ABSENT]) + (", ..." if len(absent) > _MAX_ABSENT else "")
            lines += ["", f"{report.name}: {len(absent)} classes never occur: {first}"]
    return "\n".join(lines) + "\n"


def _datasets(name: str) -> Sequence[str]:
    """Finds the data sets that a name of the command line means, and registers those of folders."""
    if name == _ALL:
        return BENCHMARKS
    register_mess_datasets([name])
    if name in DatasetCatalog:
        return [name]
    path = Path(name).expanduser()
    if path.name == MANIFEST_NAME or os.path.isfile(path / MANIFEST_NAME):
        return register_prepared_folder(path)
    known = sorted(n for n in DatasetCatalog if MetadataCatalog.get(n).get("stuff_classes"))
    raise ValueError(
        f"{name!r} is neither a registered data set nor a folder with {MANIFEST_NAME}. "
        f"Registered: {', '.join(known)}."
    )


if __name__ == "__main__":
    sys.exit(main())
