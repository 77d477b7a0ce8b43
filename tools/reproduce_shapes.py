#!/usr/bin/env python
r"""Trains and scores ESC-Net, its ablations, CAT-Seg and SED on `shapes`, and writes the tables.

    python tools/reproduce_shapes.py                  # every variant, three seeds, what is missing
    python tools/reproduce_shapes.py --report-only    # tables and plots of the runs that are there

Each run is a call of train_net.py in a process of its own with one thread; runs that have results
are not repeated, and one that was interrupted goes on. Seeds make the spread: no ranking is claimed
inside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from markdown_section import replace_section
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from escnet_d2.data.shapes import group_miou
from escnet_d2.evaluation.report import markdown_table
from escnet_d2.outputs import write_json
from escnet_d2.weights import shipped_manifest

REPO = Path(__file__).resolve().parents[1]
DOCUMENT = REPO / "docs/benchmarks.md"
PLOT = REPO / "docs/images/shapes_ablation.png"
COLUMNS = ("stuff", "seen things", "unseen things", "harmonic mean")
# What the others are compared with.
REFERENCE = "escnet_tiny_shapes"


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        config: name of the configuration.
        title: in the table.
        is_trained: False where the weights are what pre-training gave, so that no seed matters.
    """

    config: str
    title: str
    is_trained: bool = True


VARIANTS = (
    Variant("zero_shot_clip_shapes", "zero-shot CLIP", is_trained=False),
    Variant("cat_seg_tiny_shapes", "CAT-Seg"),
    Variant("sed_tiny_shapes", "SED"),
    Variant(REFERENCE, "ESC-Net (N = 2, points and masks, softmax over classes)"),
    Variant("escnet_tiny_shapes_no_sam", "without the SAM block"),
    Variant("escnet_tiny_shapes_random_sam", "SAM block from random weights"),
    Variant("escnet_tiny_shapes_n1", "N = 1"),
    Variant("escnet_tiny_shapes_n4", "N = 4"),
    Variant("escnet_tiny_shapes_points", "points only"),
    Variant("escnet_tiny_shapes_masks", "masks only"),
    Variant("escnet_tiny_shapes_spatial", "softmax over space"),
)


def get_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [variant.config for variant in VARIANTS]
    parser.add_argument("--output", type=Path, default=Path("output/shapes/reproduce"))
    parser.add_argument("--variants", nargs="+", choices=names, default=names, metavar="CONFIG")
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
    variants = [variant for variant in VARIANTS if variant.config in args.variants]
    # Seeds outside, so that a comparison over one seed is complete early.
    runs = [
        (variant, seed)
        for seed in args.seeds
        for variant in variants
        if variant.is_trained or seed == args.seeds[0]
    ]
    failed = []
    if not args.report_only:
        with ThreadPoolExecutor(args.jobs) as pool:
            codes = pool.map(lambda run: train(*run, args.output, args.opts), runs)
            failed = [run for run, code in zip(runs, codes) if code]
    for variant, seed in failed:
        print(f"Failed: {variant.config}, seed {seed}; see its log.", file=sys.stderr)
    write_report(variants, args.seeds, args.output)
    return 1 if failed else 0


def run_folder(variant: Variant, seed: int, output: Path) -> Path:
    """The OUTPUT_DIR of a run."""
    return output / variant.config / (f"seed{seed}" if variant.is_trained else "eval")


def results_file(folder: Path) -> Path:
    """Where train_net.py writes the scores."""
    return folder / "inference/shapes_val_sem_seg/results.json"


def train(variant: Variant, seed: int, output: Path, opts: list[str]) -> int:
    """Runs train_net.py unless its results are there; returns its exit code."""
    folder = run_folder(variant, seed, output)
    if results_file(REPO / folder).is_file():
        return 0
    (REPO / folder).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "train_net.py", "--config-file", variant.config]
    command += ["--resume"] if variant.is_trained else ["--eval-only"]
    command += ["SEED", str(seed), "OUTPUT_DIR", str(folder), *opts]
    print(f"$ python {shlex.join(command[1:])}", flush=True)
    # One thread for each run: two spinning pools would slow each other down.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with open(REPO / folder / "stdout.txt", "ab") as log:
        done = subprocess.run(
            command, cwd=REPO, env=environment, stdout=log, stderr=log, check=False
        )
    return done.returncode


def read_scores(folder: Path) -> dict[str, float] | None:
    """Scores of a run in percent; None where it has none."""
    path = results_file(REPO / folder)
    if not path.is_file():
        return None
    results = json.loads(path.read_text(encoding="utf-8"))
    return group_miou({record["name"]: record["IoU"] for record in results["per_class"]})


def write_report(variants: list[Variant], seeds: list[int], output: Path) -> None:
    """Writes ``results.json``, the table in docs/benchmarks.md and the plot."""
    table = {}
    for variant in variants:
        chosen = seeds if variant.is_trained else seeds[:1]
        found = {seed: read_scores(run_folder(variant, seed, output)) for seed in chosen}
        table[variant.config] = {seed: scores for seed, scores in found.items() if scores}
    write_json(REPO / output / "results.json", table)
    rows = [
        [variant.title, len(table[variant.config]), *_cells(list(table[variant.config].values()))]
        for variant in variants
        if table[variant.config]
    ]
    markdown = "\n\n".join(
        [
            markdown_table(["variant", "seeds", *(f"{name}, mIoU" for name in COLUMNS)], rows),
            f"Mean and, in brackets, least and greatest over the seeds, in percent, on the 400 "
            f"scenes of `shapes_val_sem_seg`. {_machine()}; one thread for each run; "
            "`python tools/reproduce_shapes.py`.",
            *_difference_table(variants, table),
            _pretraining_table(),
        ]
    )
    print(markdown)
    replace_section(DOCUMENT, "shapes", markdown)
    _plot({v.title: list(table[v.config].values()) for v in variants if table[v.config]})


def _difference_table(variants: list[Variant], table: dict[str, dict]) -> list[str]:
    """ESC-Net minus each trained variant, seed by seed; nothing where no seed is shared."""
    reference = table.get(REFERENCE, {})
    names = ("seen things", "unseen things")
    rows = []
    for variant in variants:
        runs = table[variant.config]
        shared = [seed for seed in runs if seed in reference]
        if variant.config == REFERENCE or not variant.is_trained or not shared:
            continue
        gaps = [{name: reference[s][name] - runs[s][name] for name in names} for s in shared]
        rows.append([variant.title, len(shared), *_cells(gaps, names, form="+.1f")])
    if not rows:
        return []
    return [
        "ESC-Net minus the variant, seed by seed: only where both ends of the range have the same "
        "sign do the seeds agree on which is better.",
        markdown_table(["variant", "seeds", *(f"{name}, points" for name in names)], rows),
    ]


def _pretraining_table() -> str:
    """What the shipped CLIP and SAM can do, by the manifest."""
    manifest = shipped_manifest()
    rows = [
        [name, measure.replace("_", " "), value]
        for name in ("clip_shapes", "clip_convnext_shapes", "sam_shapes")
        for measure, value in manifest[name]["metrics"].items()
        if isinstance(value, float)
    ]
    return (
        "What the models start from; `clip_convnext_shapes` is SED's, with the text tower of "
        "`clip_shapes`. CLIP: share of boxes (or of the patches at their middle) whose "
        "texture, colour, shape or whole name is right among 60 names. SAM: mean IoU of the mask "
        "for a prompt.\n\n" + markdown_table(["weights", "measure", "0 to 1"], rows)
    )


def _cells(
    runs: list[dict[str, float]], names: Sequence[str] = COLUMNS, form: str = ".1f"
) -> list[str]:
    """Mean of each score, and its range where there is more than one run."""
    cells = []
    for name in names:
        values = [scores[name] for scores in runs]
        spread = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):{form}}{spread}")
    return cells


def _machine() -> str:
    today = datetime.date.today().isoformat()
    return f"CPU ({platform.machine()}, {os.cpu_count()} cores), torch {torch.__version__}, {today}"


def _plot(table: dict[str, list[dict[str, float]]]) -> None:
    """A dot for each seed and a bar for the mean: seen and unseen things of each variant."""
    figure = Figure(figsize=(8, 0.5 * len(table) + 1.2), layout="constrained")
    axis = figure.subplots()
    for offset, (name, color) in enumerate(
        [("seen things", "#4477aa"), ("unseen things", "#cc6677")]
    ):
        for row, runs in enumerate(table.values()):
            values = [scores[name] for scores in runs]
            height = row + 0.36 * (offset - 0.5)
            axis.barh(
                height,
                statistics.mean(values),
                height=0.34,
                color=color,
                alpha=0.6,
                label=name if row == 0 else None,
            )
            axis.plot(values, [height] * len(values), "o", color="black", markersize=3)
    axis.set_yticks(range(len(table)), list(table))
    axis.invert_yaxis()
    axis.set_xlabel("mIoU, percent; a dot for each seed")
    # Not over the bars.
    figure.legend(loc="outside upper right", ncols=2)
    PLOT.parent.mkdir(exist_ok=True)
    FigureCanvasAgg(figure).print_png(PLOT)


if __name__ == "__main__":
    sys.exit(main())
