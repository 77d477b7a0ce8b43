r"""Segments photos and writes the result as annotations for labeling and training tools.

::

    escnet-d2 autolabel --weights model.pth --input photos/ --output labeled/ \
        --vocabulary "person, tree|bush, grass" --confidence 0.4 --to coco yolo-seg
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from . import segment

# Those of escnet_d2.outputs.annotations, which the help must not import.
FORMATS = ("coco", "yolo-seg", "png", "labelstudio", "cvat")

logger = logging.getLogger(__name__)


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments: those of ``segment``, and how annotations are made of its results."""
    parser = segment.argument_parser()
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument_group("annotations").add_argument
    add("--to", nargs="+", required=True, choices=FORMATS, metavar="F", help=", ".join(FORMATS))
    add(
        "--min-area",
        type=int,
        default=0,
        metavar="N",
        help="leave smaller connected regions unlabeled, in pixels (%(default)s)",
    )
    add(
        "--simplify",
        type=float,
        default=1.0,
        metavar="D",
        help="how far polygons may be from the region's border, in pixels (%(default)s)",
    )
    add(
        "--separate-regions",
        action="store_true",
        help="one annotation for each connected region, not one for each class of an image",
    )
    add(
        "--image-prefix",
        default="/data/local-files/?d=",
        metavar="URL",
        help="before file names in Label Studio's tasks (%(default)s)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Segments what the arguments ask for, exports all that the folder holds by then.

    Of processes that share a run those export that find it complete, one at a time.

    Returns:
        The exit code of ``segment``; nothing is exported of a run that was interrupted.

    Raises:
        OSError, ValueError, RuntimeError, AssertionError: as ``segment``, or where files of others
            are in the way of the annotations.
    """
    options = {
        "min_area": args.min_area,
        "simplify": args.simplify,
        "separate_regions": args.separate_regions,
        "image_prefix": args.image_prefix,
    }
    from escnet_d2.outputs import SUMMARY_FILE
    from escnet_d2.outputs.annotations import ExportOptions, check_export, export_run

    # Before hours of work, not after.
    ExportOptions((), **options)
    check_export(Path(args.output), args.to)
    # What annotations are made of.
    args.save = ",".join(dict.fromkeys((*args.save.split(","), "labels", "json")))
    code = segment.run(args)
    if code not in (segment.EXIT_OK, segment.EXIT_SOME_FAILED):
        return code
    folder = Path(args.output)
    if json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))["state"] != "complete":
        logger.info("Annotations follow when the other processes are done.")
        return code
    try:
        count = export_run(folder, args.to, **options)
    except BlockingIOError:
        logger.info("Another process writes the annotations.")
        return code
    folders = ", ".join(str(folder / name) for name in args.to)
    logger.info("Annotations of %d images: %s", count, folders)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; a usage error ends in one line of explanation.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code.
    """
    return segment.run_in_console(run, argument_parser().parse_args(arguments))
