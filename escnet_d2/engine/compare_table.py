"""The table and the plot of a comparison: measured, re-scored and published rows, kept apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from escnet_d2.evaluation.published import BENCHMARK_NAMES, published_results
from escnet_d2.evaluation.report import SCORES, markdown_table, write_csv
from escnet_d2.io import write_json

_PAPER_NAMES = {name: paper_name for paper_name, name in BENCHMARK_NAMES.items()}
_COST_COLUMNS = (
    ("parameters, M", lambda cost: f"{cost['parameters'] / 1e6:.2f}"),
    ("trained, M", lambda cost: f"{cost['trainable_parameters'] / 1e6:.2f}"),
    ("GFLOPs", lambda cost: f"{cost['gflops']:.2f}"),
    ("ms / image", lambda cost: f"{cost['latency_ms']:.1f} ({cost['latency_spread_ms']:.1f})"),
    ("peak MiB", lambda cost: f"{cost['peak_memory_mb']:.0f}"),
)
_DETAIL_HEADER = ("model", "data set", *SCORES)
Scores = dict[str, dict[str, float]]


def write_comparison(
    records: Sequence[Mapping[str, Any]],
    rescored: Mapping[str, Scores],
    datasets: Sequence[str],
    output_dir: str | Path,
    *,
    published: Iterable[str] = (),
    score: str = "mIoU",
) -> str:
    """Writes ``comparison.md``, ``.json`` and ``.csv``, ``scores.csv`` and ``comparison.png``.

    The table has one score of each data set and the costs, ``scores.csv`` and a second table all
    scores; the plot needs costs.

    Args:
        records: of :func:`escnet_d2.engine.compare_run.run_in_process`; those of one name become
            one row, of means and standard deviations.
        rescored: scores by name and data set of prediction files.
        datasets: columns, registered names.
        output_dir: the folder to write to, made where needed.
        published: names of methods whose published rows stand below.
        score: which of the evaluator's scores the columns are.

    Returns:
        The Markdown text.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name.casefold() for name in published}
    quoted = [row for row in published_results() if row.model.casefold() in wanted]
    rows = [_measured_row(name, group, datasets, score) for name, group in _groups(records)]
    rows += [_rescored_row(name, scores, datasets, score) for name, scores in rescored.items()]
    details = [*_measured_details(records, datasets), *_rescored_details(rescored, datasets)]
    header = [
        "model",
        *(_PAPER_NAMES.get(name, name) for name in datasets),
        *(name for name, _ in _COST_COLUMNS),
        "remark",
    ]
    write_json(
        folder / "comparison.json",
        {
            "score": score,
            "records": list(records),
            "rescored": rescored,
            "published": [asdict(row) for row in quoted],
        },
    )
    write_csv(folder / "comparison.csv", header, rows)
    write_csv(folder / "scores.csv", _DETAIL_HEADER, details)
    sections = [
        "# Comparison",
        f"{score} in percent, measured by this run; ± is the standard deviation over runs of one "
        "name. - means undefined or not evaluated.",
        markdown_table(header, rows),
        *_cost_notes(records),
    ]
    if quoted:
        sections += ["## Published figures", "Quoted from the sources named; not measured here."]
        sections.append(_published_table(quoted, datasets))
    if details:
        sections += ["## All scores", "In percent but for the numbers of classes and images."]
        sections.append(markdown_table(_DETAIL_HEADER, details))
    text = "\n\n".join(sections) + "\n"
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    _plot(records, datasets, score, folder / "comparison.png")
    return text


def _groups(
    records: Iterable[Mapping[str, Any]],
) -> Iterable[tuple[str, list[Mapping[str, Any]]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        grouped.setdefault(record["name"], []).append(record)
    return grouped.items()


def _measured_row(
    name: str, group: Sequence[Mapping[str, Any]], datasets: Sequence[str], score: str
) -> list[str]:
    cells = [_cell(_values(group, dataset, score)) for dataset in datasets]
    costs = [record["cost"] for record in group if record.get("cost")]
    cost_cells = [render(costs[0]) for _, render in _COST_COLUMNS] if costs else _no_cost()
    remarks = [f"FAILED, {record['error']}" for record in group if "error" in record]
    for record in group:
        if record.get("untrained"):
            remarks.append("untrained")
        remarks += [
            f"{_PAPER_NAMES.get(dataset, dataset)} {outcome['state']}: {outcome['detail']}"
            for dataset, outcome in record.get("datasets", {}).items()
            if not outcome["scores"]
        ]
        for dataset, outcome in record.get("datasets", {}).items():
            remarks += _incomplete(dataset, outcome["scores"])
    if len(group) > 1:
        remarks.insert(0, f"{len(group) - sum('error' in r for r in group)} runs")
    return [name, *cells, *cost_cells, "; ".join(dict.fromkeys(remarks))]


def _rescored_row(name: str, scores: Scores, datasets: Sequence[str], score: str) -> list[str]:
    remarks = ["re-scored"]
    for dataset, values in scores.items():
        remarks += _incomplete(dataset, values)
    cells = (_cell([scores.get(dataset, {}).get(score)]) for dataset in datasets)
    return [name, *cells, *_no_cost(), "; ".join(remarks)]


def _incomplete(dataset: str, scores: Mapping[str, float]) -> list[str]:
    """That scores are of a part of a data set, which do not compare with published ones."""
    expected, found = MetadataCatalog.get(dataset).get("expected_images"), scores.get("num_images")
    if None in (expected, found) or found == expected:
        return []
    return [f"{_PAPER_NAMES.get(dataset, dataset)}: {found} of {expected} images"]


def _measured_details(
    records: Sequence[Mapping[str, Any]], datasets: Sequence[str]
) -> Iterable[list[str]]:
    for name, group in _groups(records):
        for dataset in datasets:
            cells = [_detail_cell(score, _values(group, dataset, score)) for score in SCORES]
            if any(cell != "-" for cell in cells):
                yield [name, _PAPER_NAMES.get(dataset, dataset), *cells]


def _rescored_details(
    rescored: Mapping[str, Scores], datasets: Sequence[str]
) -> Iterable[list[str]]:
    for name, scores in rescored.items():
        for dataset in datasets:
            if dataset in scores:
                cells = [_detail_cell(score, [scores[dataset].get(score)]) for score in SCORES]
                yield [name, _PAPER_NAMES.get(dataset, dataset), *cells]


def _values(group: Iterable[Mapping[str, Any]], dataset: str, score: str) -> list[float | None]:
    outcomes = [record.get("datasets", {}).get(dataset) for record in group]
    return [outcome["scores"].get(score) for outcome in outcomes if outcome]


def _cell(values: Iterable[float | None]) -> str:
    defined = [value for value in values if value is not None]
    if not defined:
        return "-"
    if len(defined) == 1:
        return f"{defined[0]:.2f}"
    return f"{statistics.mean(defined):.2f} ± {statistics.stdev(defined):.2f}"


def _detail_cell(score: str, values: Iterable[float | None]) -> str:
    if not score.startswith("num_"):
        return _cell(values)
    # Numbers of classes and images: the same for all runs of a model, or worth seeing.
    return ", ".join(dict.fromkeys(f"{value:.0f}" for value in values if value is not None)) or "-"


def _no_cost() -> list[str]:
    return ["-"] * len(_COST_COLUMNS)


def _cost_notes(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """How the cost was measured, where it was."""
    notes = {
        f"{cost['device']}: {cost['images']} images of {cost['dataset']}, one at a time, "
        f"{cost['classes']} classes"
        for cost in (record.get("cost") for record in records)
        if cost
    }
    if not notes:
        return []
    return [
        "Cost on " + "; ".join(sorted(notes)) + ". GFLOPs count a multiplication and an addition "
        "as two, text embeddings left out; milliseconds are the median and, in brackets, the "
        "interquartile range; the memory of a CPU is that of the whole process."
    ]


def _published_table(quoted: Sequence[Any], datasets: Sequence[str]) -> str:
    papers = [_PAPER_NAMES[name] for name in datasets if name in _PAPER_NAMES]
    papers = papers or list(BENCHMARK_NAMES)
    rows = [
        [
            row.model,
            row.backbones,
            *(f"{row.scores[paper]:.1f}" if paper in row.scores else None for paper in papers),
            row.source,
        ]
        for row in quoted
    ]
    return markdown_table(["model", "backbones", *papers, "source"], rows)


def _plot(
    records: Sequence[Mapping[str, Any]], datasets: Sequence[str], score: str, path: Path
) -> None:
    """Mean score over the data sets against milliseconds, a point per model."""
    points = []
    for name, group in _groups(records):
        costs = [record["cost"] for record in group if record.get("cost")]
        means = [_mean_or_none(_values(group, dataset, score)) for dataset in datasets]
        if costs and means and None not in means:
            points.append((name, costs[0], statistics.mean(means)))
    if not points:
        return
    # Not a thing to load for those who compare nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, cost, value in points:
        axes.scatter(cost["latency_ms"], value)
        axes.annotate(
            f"{name}\n{cost['parameters'] / 1e6:.1f} M parameters",
            (cost["latency_ms"], value),
            textcoords="offset points",
            xytext=(6, 4),
            fontsize=8,
        )
    axes.set_xlabel(f"ms / image ({points[0][1]['device']})")
    axes.set_ylabel(f"{score}, mean over {len(datasets)} data sets")
    axes.margins(0.2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return statistics.mean(defined) if defined else None
