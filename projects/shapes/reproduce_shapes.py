#!/usr/bin/env python
r"""Trains and scores ESC-Net, its ablations, CAT-Seg and SED on `shapes`, and writes the tables.

    python projects/shapes/reproduce_shapes.py                  # all variants, three seeds
    python projects/shapes/reproduce_shapes.py --report-only    # tables of the runs that are there

Each run is a call of train_net.py in a process of its own with one thread; runs that have results
are not repeated, and one that was interrupted goes on. Seeds make the spread: no ranking is claimed
inside it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shapes_report import Row, results_file, write_report

from escnet_d2.io import write_json

REPO = Path(__file__).resolve().parents[2]
DOCUMENT = REPO / "docs/benchmarks.md"
PLOT = REPO / "docs/images/shapes_ablation.png"


@dataclass(frozen=True)
class Variant:
    """One row of the tables.

    Attributes:
        config: name of the configuration.
        title: in the tables.
        is_trained: with each seed; False where weights of the pre-training are only evaluated.
        train_scenes: labeled scenes, 50, 200 or 1,000.
    """

    config: str
    title: str
    is_trained: bool = True
    train_scenes: int = 200

    @property
    def name(self) -> str:
        """Name on the command line and of the folder."""
        suffix = "" if self.train_scenes == _SCENES else f"_{self.train_scenes}_scenes"
        return self.config + suffix

    @property
    def opts(self) -> list[str]:
        """Configuration keys beside those of the file."""
        if self.train_scenes == _SCENES:
            return []
        suffix = _TRAIN_SETS[self.train_scenes]
        return ["DATASETS.TRAIN", f"('shapes_train{suffix}_sem_seg',)"]


# Labeled scenes of the configurations, and other numbers of them.
_SCENES = 200
_TRAIN_SETS = {50: "_50", 1000: ""}

REFERENCE = Variant("escnet_tiny_shapes", "ESC-Net")
NO_SAM = Variant("escnet_tiny_shapes_no_sam", "without SAM")
VARIANTS = (
    Variant("zero_shot_clip_shapes", "zero-shot CLIP", is_trained=False),
    Variant("cat_seg_tiny_shapes", "CAT-Seg"),
    Variant("sed_tiny_shapes", "SED"),
    REFERENCE,
    NO_SAM,
    Variant("escnet_tiny_shapes_random_sam", "SAM from random weights"),
    Variant("escnet_tiny_shapes_no_adapter", "without the adapter"),
    Variant("escnet_tiny_shapes_guidance", "fused map alone"),
    Variant("escnet_tiny_shapes_own_masks", "own masks as values"),
    Variant("escnet_tiny_shapes_own_features", "own features as values"),
    Variant("escnet_tiny_shapes_paper", "the paper's text"),
    Variant(REFERENCE.config, "ESC-Net, 50 scenes", train_scenes=50),
    Variant(NO_SAM.config, "without SAM, 50 scenes", train_scenes=50),
    Variant(REFERENCE.config, "ESC-Net, 1,000 scenes", train_scenes=1000),
    Variant(NO_SAM.config, "without SAM, 1,000 scenes", train_scenes=1000),
)


def get_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--output", type=Path, default=Path("output/shapes/reproduce"))
    parser.add_argument("--variants", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs for every run"
    )
    return parser


def main() -> int:
    """Runs what is missing and writes the report; returns an exit code."""
    args = get_parser().parse_args()
    variants = [variant for variant in VARIANTS if variant.name in args.variants]
    failed = [] if args.report_only else run_missing(variants, args)
    for variant, seed in failed:
        print(f"Failed: {variant.name}, seed {seed}; see its log.", file=sys.stderr)
    rows = [
        Row(
            title=variant.title,
            folders={
                seed: REPO / run_folder(variant, seed, args.output)
                for seed in seeds_of(variant, args.seeds)
            },
            is_compared=variant.is_trained,
        )
        for variant in variants
    ]
    scores = {variant.name: row.scores() for variant, row in zip(variants, rows)}
    write_json(REPO / args.output / "results.json", scores)
    write_report(rows, REFERENCE.title, DOCUMENT, PLOT)
    return 1 if failed else 0


def run_missing(variants: Sequence[Variant], args: argparse.Namespace) -> list[tuple[Variant, int]]:
    """Starts the runs that have no results; returns those that failed."""
    # Seeds outside, so that a comparison over one seed is complete early.
    runs = [
        (variant, seed)
        for seed in args.seeds
        for variant in variants
        if seed in seeds_of(variant, args.seeds)
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        codes = pool.map(lambda run: start(*run, args.output, args.opts), runs)
        return [run for run, code in zip(runs, codes) if code]


def seeds_of(variant: Variant, seeds: Sequence[int]) -> Sequence[int]:
    """The seeds to run a variant with."""
    return seeds if variant.is_trained else seeds[:1]


def run_folder(variant: Variant, seed: int, output: Path) -> Path:
    """The OUTPUT_DIR of a run."""
    return output / variant.name / (f"seed{seed}" if variant.is_trained else "eval")


def start(variant: Variant, seed: int, output: Path, opts: Sequence[str]) -> int:
    """Runs train_net.py unless its results are there; returns its exit code."""
    folder = run_folder(variant, seed, output)
    if results_file(REPO / folder).is_file():
        return 0
    (REPO / folder).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "train_net.py", "--config-file", variant.config]
    command += ["--resume"] if variant.is_trained else ["--eval-only"]
    command += ["SEED", str(seed), "OUTPUT_DIR", str(folder), *variant.opts, *opts]
    print(f"$ python {shlex.join(command[1:])}", flush=True)
    # One thread for each run: two spinning pools would slow each other down.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with open(REPO / folder / "stdout.txt", "ab") as log:
        done = subprocess.run(
            command, cwd=REPO, env=environment, stdout=log, stderr=log, check=False
        )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
