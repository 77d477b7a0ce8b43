#!/usr/bin/env python
r"""Draws the procedural data set `shapes` into the folder of the data sets.

    python projects/shapes/prepare_shapes.py

Nothing is downloaded, and every machine draws the same pictures. Training draws what it needs by
itself; this program draws everything at once, on several cores.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from escnet_d2.projects.shapes import SPLITS, prepare_split, shapes_root


def main() -> int:
    """Draws the splits asked for; returns an exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="default: shapes/ in $DETECTRON2_DATASETS, or in ./datasets",
    )
    parser.add_argument(
        "--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS), help="default: all"
    )
    parser.add_argument("--num-workers", type=int, default=2, help="processes that draw")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root = args.output or shapes_root()
    for name in args.splits:
        try:
            folder = prepare_split(root, name, num_workers=args.num_workers)
        except (OSError, ValueError) as error:
            print(f"prepare_shapes.py: error: {error}", file=sys.stderr)
            return 1
        print(f"{folder}: {SPLITS[name].num_scenes} scenes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
