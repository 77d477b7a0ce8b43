#!/usr/bin/env python
r"""Trains and scores ESC-Net, SAM-MI, their ablations, CAT-Seg and SED on `shapes`.

    python projects/shapes/reproduce_shapes.py                    # both tables, three seeds
    python projects/shapes/reproduce_shapes.py --tables methods   # without ablations
    python projects/shapes/reproduce_shapes.py --report-only      # of the runs that are there

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

from shapes_report import Row, results_file, write_pretraining, write_table

from escnet_d2.io import write_json

REPO = Path(__file__).resolve().parents[2]
DOCUMENT = REPO / "docs/benchmarks.md"
IMAGES = REPO / "docs/images"


@dataclass(frozen=True)
class Variant:
    """One row of the tables.

    Attributes:
        title: in the tables.
        config: name of the configuration.
        suffix: after it, the variant's name on the command line and of its folder.
        opts: configuration keys beside those of the file.
        is_trained: with each seed; False where weights of the pre-training are only evaluated.
        weights_of: name of the variant whose weights of each seed are evaluated with ``opts``.
    """

    title: str
    config: str
    suffix: str = ""
    opts: tuple[str, ...] = ()
    is_trained: bool = True
    weights_of: str = ""

    @property
    def name(self) -> str:
        """Name on the command line and of the folder."""
        return self.config + self.suffix


ESCNET, NO_SAM = "escnet_tiny_shapes", "escnet_tiny_shapes_no_sam"
SAM_MI, TWO_STAGE = "sam_mi_tiny_shapes", "two_stage_sam_shapes"
REFERENCE = Variant("ESC-Net", ESCNET)


def on_scenes(number: int, split: str) -> tuple[Variant, Variant]:
    """ESC-Net with and without SAM, trained on another number of labeled scenes."""
    suffix, opts = f"_{number}_scenes", ("DATASETS.TRAIN", f"('{split}',)")
    return (
        Variant(f"ESC-Net, {number:,} scenes", ESCNET, suffix, opts),
        Variant(f"without SAM, {number:,} scenes", NO_SAM, suffix, opts),
    )


def with_masks(name: str, *opts: str) -> Variant:
    """The trained SAM-MI with other masks."""
    return Variant(f"SAM-MI, {name}", SAM_MI, f"_{name.replace(' ', '_')}", opts, weights_of=SAM_MI)


METHODS = (
    Variant("zero-shot CLIP", "zero_shot_clip_shapes", is_trained=False),
    Variant("SAM's masks named by CLIP", TWO_STAGE, is_trained=False),
    Variant(
        "true masks named by CLIP",
        TWO_STAGE,
        "_truth",
        ("MODEL.MASKS.SOURCE", "truth"),
        is_trained=False,
    ),
    Variant("CAT-Seg", "cat_seg_tiny_shapes"),
    Variant("SED", "sed_tiny_shapes"),
    REFERENCE,
    Variant("without SAM", NO_SAM),
    Variant("SAM-MI", SAM_MI),
    with_masks("dense grid", "MODEL.MASKS.SOURCE", "grid"),
    with_masks("true masks", "MODEL.MASKS.SOURCE", "truth"),
    *(
        with_masks(f"noise {share}", "MODEL.MASKS.NOISE", share)
        for share in ("0.25", "0.5", "0.75")
    ),
)
ABLATIONS = (
    REFERENCE,
    Variant("SAM from random weights", "escnet_tiny_shapes_random_sam"),
    Variant("SAM and adapter trained", ESCNET, "_trained_sam", ("MODEL.SAM.TRAIN", "True")),
    Variant("without the adapter", "escnet_tiny_shapes_no_adapter"),
    Variant("fused map alone", "escnet_tiny_shapes_guidance"),
    Variant(
        "means in masks alone", ESCNET, "_pooling", ("MODEL.ESCNET.SAM_OUTPUTS", "['pooling']")
    ),
    Variant("own masks as values", "escnet_tiny_shapes_own_masks"),
    Variant("own features as values", "escnet_tiny_shapes_own_features"),
    Variant("the paper's text", "escnet_tiny_shapes_paper"),
    *on_scenes(50, "shapes_train_50_sem_seg"),
    *on_scenes(1000, "shapes_train_sem_seg"),
    Variant("SAM-MI, low frequency", SAM_MI, "_low", ("MODEL.SAM_MI.HIGH", "none")),
    Variant("SAM-MI, high frequency", SAM_MI, "_high", ("MODEL.SAM_MI.LOW", "[]")),
    Variant("SAM-MI, no aggregation", SAM_MI, "_parts", ("MODEL.SAM_MI.AGGREGATION", "none")),
)
# By name of the section in the document.
TABLES = {"methods": METHODS, "ablations": ABLATIONS}
VARIANTS = tuple(dict.fromkeys(METHODS + ABLATIONS))


def get_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--output", type=Path, default=Path("output/shapes/reproduce"))
    parser.add_argument(
        "--tables", nargs="+", choices=list(TABLES), default=list(TABLES), help="default: both"
    )
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
    tables = {
        name: [variant for variant in TABLES[name] if variant.name in args.variants]
        for name in args.tables
    }
    variants = list(dict.fromkeys(sum(tables.values(), [])))
    failed = [] if args.report_only else run_missing(variants, args)
    for variant, seed in failed:
        print(f"Failed: {variant.name}, seed {seed}; see its log.", file=sys.stderr)
    rows = {
        variant.name: Row(
            title=variant.title,
            folders={
                seed: REPO / run_folder(variant, seed, args.output)
                for seed in seeds_of(variant, args.seeds)
            },
            is_compared=variant.is_trained,
        )
        for variant in variants
    }
    scores = {name: row.scores() for name, row in rows.items()}
    write_json(REPO / args.output / "results.json", scores)
    for name, shown in tables.items():
        write_table(
            [rows[variant.name] for variant in shown],
            REFERENCE.title,
            DOCUMENT,
            section=name,
            plot=IMAGES / f"shapes_{name}.png",
        )
    write_pretraining(DOCUMENT)
    return 1 if failed else 0


def run_missing(variants: Sequence[Variant], args: argparse.Namespace) -> list[tuple[Variant, int]]:
    """Starts the runs that have no results; returns those that failed."""
    failed = []
    # Weights come before what evaluates them.
    for evaluates in (False, True):
        # Seeds outside, so that a comparison over one seed is complete early.
        runs = [
            (variant, seed)
            for seed in args.seeds
            for variant in variants
            if seed in seeds_of(variant, args.seeds) and bool(variant.weights_of) == evaluates
        ]
        with ThreadPoolExecutor(args.jobs) as pool:
            codes = pool.map(lambda run: start(*run, args.output, args.opts), runs)
            failed += [run for run, code in zip(runs, codes) if code]
    return failed


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
    trains = variant.is_trained and not variant.weights_of
    command += ["--resume"] if trains else ["--eval-only"]
    if variant.weights_of:
        weights = output / variant.weights_of / f"seed{seed}" / "model_final.pth"
        command += ["MODEL.WEIGHTS", str(weights)]
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
