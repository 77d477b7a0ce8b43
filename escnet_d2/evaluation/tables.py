"""Tables of scores: over the data sets of a run, beside published figures, and over models."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.data import MetadataCatalog
from tabulate import tabulate

from escnet_d2.io import write_json

from .mess import MESS_SCORES, mess_scores
from .metrics import SCORES
from .published import BENCHMARK_NAMES, PAPER_NAMES, PublishedResult, published_results

_PUBLISHED_COLUMNS = ("model", "venue", "backbones", "training set")
_COST_COLUMNS = {
    "parameters, M": lambda cost: f"{cost['parameters'] / 1e6:.2f}",
    "trained, M": lambda cost: f"{cost['trainable_parameters'] / 1e6:.2f}",
    "GFLOPs": lambda cost: f"{cost['gflops']:.2f}",
    "ms / image": lambda cost: f"{cost['latency_ms']:.1f} ({cost['latency_spread_ms']:.1f})",
    "peak MiB": lambda cost: f"{cost['peak_memory_mb']:.0f}",
}
Results = Mapping[str, Mapping[str, Any]]


class DatasetOutcome(NamedTuple):
    """A data set of a run: evaluated, kept from an earlier run, skipped or failed, and why."""

    name: str
    state: str
    detail: str = ""


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Makes a table for Markdown: numbers with two digits, "-" for None."""
    # Numbers are formatted here: tabulate would turn a class named "007" into 7.
    return tabulate(
        [[_cell(value) for value in row] for row in rows],
        headers=headers,
        tablefmt="github",
        disable_numparse=True,
    )


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table; None becomes an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def score_table(results: Results) -> str:
    """Returns all scores as a Markdown table, a row for each data set."""
    return markdown_table(["dataset", *SCORES], _score_rows(results))


def write_summary(results: Results, output_dir: str | Path) -> str:
    """Writes one table over several data sets: ``summary.json``, ``summary.csv``, ``summary.md``.

    To be called on one process only.

    Args:
        results: content of ``results.json`` by data set.
        output_dir: the folder to write to, made where needed: ``OUTPUT_DIR/inference``.

    Returns:
        The Markdown table.
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    # The papers' benchmarks first, in the order of their tables.
    names = sorted(results, key=[*PAPER_NAMES, *sorted(results)].index)
    results = {name: results[name] for name in names}
    write_json(output_dir / "summary.json", {name: _scores(results, name) for name in names})
    write_csv(output_dir / "summary.csv", ["dataset", *SCORES], _score_rows(results))
    markdown = score_table(results)
    (output_dir / "summary.md").write_text(markdown + "\n", encoding="utf-8")
    return markdown


def write_benchmarks(
    outcomes: Sequence[DatasetOutcome],
    results: Results,
    output_dir: str | Path,
    *,
    title: str,
    source: str,
    untrained: bool = False,
    mess: Sequence[Any] = (),
) -> str:
    """Writes ``benchmarks.md``, ``.json`` and ``.csv``, and ``mess.csv`` where MESS is asked for.

    Args:
        outcomes: a row for each.
        results: content of ``results.json`` by data set.
        output_dir: the folder to write to, which exists: ``OUTPUT_DIR/inference``.
        title: name of this run's row.
        source: origin of this run's figures, such as the file of its weights.
        untrained: whether part of the model has random weights.
        mess: MESS's data sets, see :func:`escnet_d2.evaluation.mess.mess_scores`.

    Returns:
        The Markdown text.
    """
    folder = Path(output_dir)
    own = [results[name]["mIoU"] if name in results else None for name in BENCHMARK_NAMES.values()]
    header = [*_PUBLISHED_COLUMNS, *BENCHMARK_NAMES, "source"]
    published = [_published_row(result, BENCHMARK_NAMES) for result in published_results()]
    by_domain = mess_scores(results, mess) if mess else None
    write_json(
        folder / "benchmarks.json",
        {
            "title": title,
            "source": source,
            "untrained": untrained,
            "datasets": [
                {**outcome._asdict(), "scores": _scores(results, outcome.name)}
                for outcome in outcomes
            ],
            "mess": by_domain,
            "published": [vars(result) for result in published_results()],
        },
    )
    own_cells = ["", "", "", *own]
    write_csv(folder / "benchmarks.csv", header, [[title, *own_cells, source], *published])
    rows = [
        [
            outcome.name,
            PAPER_NAMES.get(outcome.name, ""),
            outcome.state,
            *map(results.get(outcome.name, {}).get, SCORES),
            outcome.detail,
        ]
        for outcome in outcomes
    ]
    sections = [
        f"# {title}",
        f"Figures of this run: {source}. In percent; - means undefined.",
        "## Data sets",
        markdown_table(["data set", "benchmark", "state", *SCORES, "remark"], rows),
    ]
    if not results.keys().isdisjoint(BENCHMARK_NAMES.values()):
        rows = [[f"**{title}**", *own_cells, "this run"], *published]
        sections += ["## Beside published figures", markdown_table(header, rows)]
    if by_domain is not None:
        mess_header, rows = ["data set", "domain", "mIoU", "CoI-mIoU"], _mess_rows(by_domain)
        write_csv(folder / "mess.csv", mess_header, rows)
        sections += [
            "## MESS",
            "By MESS's formulas: means over the classes in the ground truth or the prediction.",
            markdown_table(mess_header, rows),
        ]
    return _write_markdown(folder / "benchmarks.md", sections)


def write_comparison(
    runs: Sequence[Mapping[str, Any]],
    rescored: Mapping[str, Mapping[str, Mapping[str, float]]],
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
        runs: ``name``, and ``error`` or ``untrained``, ``datasets`` (state, detail and scores by
            name) and ``cost`` (of :func:`escnet_d2.engine.model_cost.measure_cost`, or None); those
            of one name become one row, of means and standard deviations.
        rescored: scores by name and data set of prediction files.
        datasets: columns, registered names.
        output_dir: the folder to write to, made where needed.
        published: names of methods whose published rows stand below.
        score: which of the evaluator's scores the columns are.

    Returns:
        The Markdown text.
    """
    folder = Path(output_dir)
    wanted = {name.casefold() for name in published}
    quoted = [row for row in published_results() if row.model.casefold() in wanted]
    write_json(
        folder / "comparison.json",
        {
            "score": score,
            "records": list(runs),
            "rescored": rescored,
            "published": [asdict(row) for row in quoted],
        },
    )
    measured: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        measured.setdefault(run["name"], []).append(run)
    groups = list(measured.items())
    for name, by_dataset in rescored.items():
        outcomes = {dataset: {"scores": scores} for dataset, scores in by_dataset.items()}
        groups.append((name, [{"rescored": True, "datasets": outcomes}]))
    papers = [PAPER_NAMES.get(name, name) for name in datasets]
    header, rows = ["model", *papers, *_COST_COLUMNS, "remark"], []
    for name, group in groups:
        cost, scores = _cost(group), [_over_runs(group, dataset, score) for dataset in datasets]
        costs = [render(cost) if cost else "-" for render in _COST_COLUMNS.values()]
        rows.append([name, *scores, *costs, "; ".join(dict.fromkeys(_remarks(group)))])
    write_csv(folder / "comparison.csv", header, rows)
    detail_header = ["model", "data set", *SCORES]
    details = [
        [name, paper, *(_over_runs(group, dataset, column) for column in SCORES)]
        for name, group in groups
        for dataset, paper in zip(datasets, papers)
        if any(_defined(group, dataset, column) for column in SCORES)
    ]
    write_csv(folder / "scores.csv", detail_header, details)
    sections = [
        "# Comparison",
        f"{score} in percent, measured by this run; ± is the standard deviation over runs of one "
        "name. - means undefined or not evaluated.",
        markdown_table(header, rows),
        *_cost_notes(runs),
    ]
    if quoted:
        known = [paper for paper in papers if paper in BENCHMARK_NAMES] or list(BENCHMARK_NAMES)
        sections += [
            "## Published figures",
            "Quoted from the sources named; not measured here.",
            markdown_table(
                [*_PUBLISHED_COLUMNS, *known, "source"],
                [_published_row(result, known) for result in quoted],
            ),
        ]
    if details:
        sections += [
            "## All scores",
            "In percent but for the numbers of classes and images.",
            markdown_table(detail_header, details),
        ]
    points = []
    for name, group in measured.items():
        cost, values = _cost(group), [_defined(group, dataset, score) for dataset in datasets]
        if cost and all(values):
            points.append((name, cost, statistics.mean(map(statistics.mean, values))))
    if points:
        label = f"{score}, mean over {len(datasets)} data sets"
        _plot(points, label, folder / "comparison.png")
    return _write_markdown(folder / "comparison.md", sections)


def _write_markdown(path: Path, sections: Iterable[str]) -> str:
    text = "\n\n".join(sections) + "\n"
    path.write_text(text, encoding="utf-8")
    return text


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value).replace("|", "\\|")


def _scores(results: Results, name: str) -> dict[str, Any] | None:
    """Returns the scores of a whole data set; None where it has no results."""
    return {score: results[name][score] for score in SCORES} if name in results else None


def _score_rows(results: Results) -> list[list[Any]]:
    return [[name, *map(found.get, SCORES)] for name, found in results.items()]


def _published_row(result: PublishedResult, papers: Iterable[str]) -> list[Any]:
    return [
        result.model,
        result.venue,
        result.backbones,
        result.training_set + (" and more" if result.extra_data else ""),
        # With one digit, as they are printed.
        *(f"{result.scores[paper]:.1f}" if paper in result.scores else None for paper in papers),
        result.source,
    ]


def _mess_rows(mess: Mapping[str, Any]) -> list[list[Any]]:
    rows = [[row["title"], row["domain"], *map(row.get, MESS_SCORES)] for row in mess["datasets"]]
    for domain, mean in (*mess["domains"].items(), ("all", mess["mean"])):
        count = f"mean of {mean['evaluated']} of {mean['datasets']}"
        rows.append([count, domain, *map(mean.get, MESS_SCORES)])
    return rows


def _remarks(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if len(runs) > 1:
        yield f"{sum('error' not in run for run in runs)} runs"
    for run in runs:
        if "error" in run:
            yield f"FAILED, {run['error']}"
        if run.get("untrained"):
            yield "untrained"
        if run.get("rescored"):
            yield "re-scored"
        for dataset, outcome in run.get("datasets", {}).items():
            paper, scores = PAPER_NAMES.get(dataset, dataset), outcome["scores"]
            if not scores:
                yield f"{paper} {outcome['state']}: {outcome['detail']}"
                continue
            # Scores of a part of a data set do not compare with published ones.
            expected = MetadataCatalog.get(dataset).get("expected_images")
            found = scores.get("num_images")
            if None not in (expected, found) and found != expected:
                yield f"{paper}: {found:.0f} of {expected} images"


def _defined(runs: Iterable[Mapping[str, Any]], dataset: str, score: str) -> list[float]:
    """Returns one score of a data set in those runs that have it."""
    outcomes = [run.get("datasets", {}).get(dataset) for run in runs]
    values = [outcome["scores"].get(score) for outcome in outcomes if outcome]
    return [value for value in values if value is not None]


def _over_runs(runs: Iterable[Mapping[str, Any]], dataset: str, score: str) -> str:
    values = _defined(runs, dataset, score)
    if not values:
        return "-"
    if score.startswith("num_"):
        # The same for all runs of a model, or worth seeing.
        return ", ".join(dict.fromkeys(f"{value:.0f}" for value in values))
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def _cost(runs: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((run["cost"] for run in runs if run.get("cost")), None)


def _cost_notes(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    notes = {
        f"{cost['device']}: {cost['images']} images of {cost['dataset']}, one at a time, "
        f"{cost['classes']} classes"
        for cost in (run.get("cost") for run in runs)
        if cost
    }
    if not notes:
        return []
    return [
        "Cost on " + "; ".join(sorted(notes)) + ". GFLOPs count a multiplication and an addition "
        "as two, text embeddings left out; milliseconds are the median and, in brackets, the "
        "interquartile range; the memory of a CPU is that of the whole process."
    ]


def _plot(points: Sequence[tuple[str, Mapping[str, Any], float]], label: str, path: Path) -> None:
    """Draws score against time: points are name, cost and score of each model."""
    # Only those who compare should wait for it to load.
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
    axes.set_ylabel(label)
    axes.margins(0.2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
