"""The report of `reproduce_shapes.py`: tables for docs/benchmarks.md, and the plot."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog
from markdown_section import replace_section
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from escnet_d2.evaluation.predictions import decode_label_map
from escnet_d2.evaluation.tables import markdown_table
from escnet_d2.io import read_label_map
from escnet_d2.projects.shapes import ErrorSources, group_miou
from escnet_d2.weights import shipped_manifest

DATASET = "shapes_val_sem_seg"
GROUPS = ("stuff", "seen things", "unseen things", "harmonic mean", "boundary")
THINGS = ("seen things", "unseen things")
ERRORS = (
    "right",
    "a thing not in the scene",
    "another thing of the scene",
    "called ground",
    "outvoted in its object",
)


@dataclass(frozen=True)
class Row:
    """The runs of one variant.

    Attributes:
        title: in the tables.
        folders: OUTPUT_DIR of its run with each seed; a run may be missing.
        is_compared: whether a seed of it means something beside the same seed of the others.
    """

    title: str
    folders: Mapping[int, Path]
    is_compared: bool = True

    def scores(self) -> dict[int, dict[str, float]]:
        """:data:`GROUPS` in percent of each seed that has results."""
        found = self._read_all("results.json")
        return {
            seed: group_miou({record["name"]: record["IoU"] for record in results["per_class"]})
            | {"boundary": results["boundary_mIoU"]}
            for seed, results in found.items()
        }

    def errors(self) -> dict[int, dict[str, float]]:
        """:data:`ERRORS` and, under the names of THINGS, the vote's mIoU, of each seed."""
        found = self._read_all("sem_seg_predictions.json")
        return {seed: _error_sources(records) for seed, records in found.items()}

    def _read_all(self, name: str) -> dict[int, Any]:
        """Reads the file of this name of each seed's evaluation, where there is one."""
        paths = {seed: results_file(folder, name) for seed, folder in self.folders.items()}
        return {
            seed: json.loads(path.read_text(encoding="utf-8"))
            for seed, path in paths.items()
            if path.is_file()
        }


def write_table(
    rows: Sequence[Row], reference: str, document: Path, *, section: str, plot: Path
) -> None:
    """Writes scores, differences and kinds of errors into a document, and plots the scores.

    Args:
        rows: variants in the order of the table; those without runs are left out.
        reference: title of the one that the others are compared with.
        document: Markdown with the marks of the section, which stays as it is without runs.
        section: its name.
        plot: PNG to write.
    """
    table = {row.title: scores for row in rows if (scores := row.scores())}
    if not table:
        return
    errors = {row.title: errors for row in rows if (errors := row.errors())}
    compared = {row.title for row in rows if row.is_compared and row.title != reference}
    markdown = "\n\n".join(
        [
            _seed_table(table, GROUPS, ", mIoU"),
            f"Mean (least..greatest) over the seeds, in percent, on the 300 scenes of `{DATASET}`; "
            f"boundary IoU of all classes. {_machine()}; one thread for each run.",
            *_difference_table(table, reference, compared),
            *_error_table(errors),
        ]
    )
    print(markdown)
    replace_section(document, section, markdown)
    _plot(table, plot)


def write_pretraining(document: Path) -> None:
    """Writes the section ``pretraining``: accuracies of the shipped CLIPs and SAM (manifest)."""
    manifest = shipped_manifest()
    tables = []
    for names in (("clip_shapes", "clip_convnext_shapes"), ("sam_shapes",)):
        metrics = [manifest[name]["metrics"] for name in names]
        measures = [name for name, value in metrics[0].items() if isinstance(value, float)]
        tables.append(
            markdown_table(
                ["weights", *(measure.replace("_", " ") for measure in measures)],
                [
                    [name, *(scores[measure] for measure in measures)]
                    for name, scores in zip(names, metrics)
                ],
            )
        )
    replace_section(document, "pretraining", "\n\n".join(tables))


def results_file(folder: Path, name: str = "results.json") -> Path:
    """A file that the evaluation of a run writes below its OUTPUT_DIR."""
    return folder / "inference" / DATASET / name


def _error_sources(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """:data:`ERRORS`, and :data:`THINGS` after the vote, of one run's predictions."""
    by_name = defaultdict(list)
    for record in records:
        by_name[Path(record["file_name"]).name].append(record)
    sources = ErrorSources()
    for sample in DatasetCatalog.get(DATASET):
        image = Path(sample["file_name"])
        sources.add(
            decode_label_map(by_name[image.name]),
            read_label_map(sample["sem_seg_file_name"]),
            read_label_map(image.parents[1] / "instances" / image.name),
        )
    voted = sources.voted_miou()
    return sources.shares() | {name: voted[name] for name in THINGS}


def _seed_table(
    table: Mapping[str, Mapping[int, Mapping[str, float]]],
    names: Sequence[str],
    unit: str,
    form: str = ".1f",
) -> str:
    """One line for each variant: how many seeds, then mean and range of each score."""
    headers = ["variant", "seeds", *(f"{name}{unit}" for name in names)]
    lines = []
    for title, runs in table.items():
        cells = []
        for name in names:
            values = [scores[name] for scores in runs.values()]
            spread = f" ({min(values):{form}}..{max(values):{form}})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):{form}}{spread}")
        lines.append([title, len(runs), *cells])
    return markdown_table(headers, lines)


def _difference_table(
    table: Mapping[str, Mapping[int, Mapping[str, float]]], reference: str, compared: set[str]
) -> list[str]:
    """The reference minus each variant, seed by seed; nothing where no seed is shared."""
    own = table.get(reference, {})
    gaps = {}
    for title in table:
        shared = [seed for seed in table[title] if seed in own] if title in compared else []
        if shared:
            gaps[title] = {
                seed: {name: own[seed][name] - table[title][seed][name] for name in THINGS}
                for seed in shared
            }
    if not gaps:
        return []
    return [
        "ESC-Net minus the variant, seed by seed: where both ends of the range have the same sign, "
        "the seeds agree.",
        _seed_table(gaps, THINGS, ", points", form="+.1f"),
    ]


def _error_table(errors: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[str]:
    """Shares of right and wrong pixels of things, and the scores after a vote in each object."""
    if not errors:
        return []
    # Means alone: the first table has the ranges.
    names = (*ERRORS, *THINGS)
    lines = [
        [title, *(f"{statistics.mean(run[name] for run in runs.values()):.1f}" for name in names)]
        for title, runs in errors.items()
    ]
    headers = [*ERRORS, *(f"{name} after the vote" for name in THINGS)]
    return [
        "Pixels of things, in percent, means over the seeds; the first four columns sum to 100. A "
        "vote inside each object's true mask would fix those *outvoted*: the last columns are mIoU "
        "after it.",
        markdown_table(["variant", *headers], lines),
    ]


def _machine() -> str:
    today = datetime.date.today().isoformat()
    return f"CPU ({platform.machine()}, {os.cpu_count()} cores), torch {torch.__version__}, {today}"


def _plot(table: Mapping[str, Mapping[int, Mapping[str, float]]], path: Path) -> None:
    """A dot for each seed and a bar for the mean: seen and unseen things of each variant."""
    figure = Figure(figsize=(8, 0.5 * len(table) + 1.2), layout="constrained")
    axis = figure.subplots()
    for offset, (name, color) in enumerate(zip(THINGS, ("#4477aa", "#cc6677"))):
        for row, runs in enumerate(table.values()):
            values = [scores[name] for scores in runs.values()]
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
    path.parent.mkdir(exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)
