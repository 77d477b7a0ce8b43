"""Tables over many data sets: this run beside published figures, and MESS by domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from escnet_d2.data.datasets.mess import DOMAINS, MESS_DATASETS
from escnet_d2.evaluation.classes_of_interest import classes_of_interest_miou
from escnet_d2.evaluation.published import BENCHMARK_NAMES, PublishedResult, published_results
from escnet_d2.evaluation.report import SCORES, markdown_table, write_csv
from escnet_d2.io import write_json

from .benchmark_run import DatasetOutcome

FILE_STEM = "benchmarks"
_DATASET_COLUMNS = (
    "mIoU",
    "mIoU_gt_or_pred",
    "fwIoU",
    "pACC",
    "hIoU",
    "boundary_mIoU",
    "num_classes",
    "num_images",
)
_MESS_SCORES = ("mIoU_gt_or_pred", "CoI_mIoU")


def write_tables(
    outcomes: Sequence[DatasetOutcome], output_dir: str | Path, *, title: str, source: str
) -> str:
    """Writes ``benchmarks.md``, ``.json`` and ``.csv``, and ``mess.csv`` where MESS was asked for.

    Args:
        outcomes: of :func:`escnet_d2.engine.benchmark_run.evaluate_datasets`.
        output_dir: the folder to write to, made where needed: ``OUTPUT_DIR/inference``.
        title: what the row of this run is called.
        source: where this run's figures come from, such as the file of its weights.

    Returns:
        The Markdown text.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results = {outcome.name: outcome.results for outcome in outcomes if outcome.results}
    own = {
        paper_name: results[name]["mIoU"]
        for paper_name, name in BENCHMARK_NAMES.items()
        if name in results
    }
    mess = mess_scores(results) if _asks_for_mess(outcomes) else None
    write_json(
        folder / f"{FILE_STEM}.json",
        {
            "title": title,
            "source": source,
            "datasets": [_dataset_record(outcome) for outcome in outcomes],
            "mess": mess,
            "published": [vars(result) for result in published_results()],
        },
    )
    write_csv(
        folder / f"{FILE_STEM}.csv",
        ["model", "venue", "backbones", "training set", *BENCHMARK_NAMES, "source"],
        [
            [title, "", "", "", *map(own.get, BENCHMARK_NAMES), source],
            *map(_published_row, published_results()),
        ],
    )
    sections = [f"# {title}", f"Figures of this run: {source}. In percent; - means undefined."]
    sections += ["## Data sets", _datasets_table(outcomes)]
    if own:
        sections += ["## Beside published figures", _published_table(own, title)]
    if mess is not None:
        rows = _mess_rows(mess)
        header = ["data set", "domain", "mIoU", "CoI-mIoU"]
        write_csv(folder / "mess.csv", header, rows)
        sections += [
            "## MESS",
            "By MESS's formulas: means over the classes in the ground truth or the prediction.",
            markdown_table(header, rows),
        ]
    text = "\n\n".join(sections) + "\n"
    (folder / f"{FILE_STEM}.md").write_text(text, encoding="utf-8")
    return text


def mess_scores(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """MESS's scores by data set, their means by domain, and the mean over all.

    Args:
        results: ``results.json`` by registered name; other data sets are left alone.

    Returns:
        ``datasets``: title, domain and scores of each of the 22, None where it was not evaluated;
        PAXRay counts once, as the mean of its four parts. ``domains`` and ``mean``: scores, and
        ``evaluated`` of ``datasets`` as the number of data sets that they average.
    """
    rows = [
        {
            "title": dataset.title,
            "domain": dataset.domain,
            **_mean_scores([_mess_pair(name, results.get(name)) for name in dataset.names]),
        }
        for dataset in MESS_DATASETS
    ]
    domains = {
        domain: _mean_of_evaluated([row for row in rows if row["domain"] == domain])
        for domain in DOMAINS
    }
    return {"datasets": rows, "domains": domains, "mean": _mean_of_evaluated(rows)}


def _mess_pair(name: str, results: Mapping[str, Any] | None) -> dict[str, float | None]:
    if results is None:
        return dict.fromkeys(_MESS_SCORES)
    per_class = results["per_class"]
    classes = MetadataCatalog.get(name).get("classes_of_interest", range(len(per_class)))
    return {
        "mIoU_gt_or_pred": results["mIoU_gt_or_pred"],
        "CoI_mIoU": classes_of_interest_miou(per_class, classes),
    }


def _mean_scores(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Means, None where one of the values is."""
    means: dict[str, float | None] = {}
    for name in _MESS_SCORES:
        values = [score[name] for score in scores]
        means[name] = sum(values) / len(values) if values and None not in values else None
    return means


def _mean_of_evaluated(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    evaluated = [row for row in rows if None not in (row[name] for name in _MESS_SCORES)]
    return {**_mean_scores(evaluated), "evaluated": len(evaluated), "datasets": len(rows)}


def _mess_rows(mess: Mapping[str, Any]) -> list[list[Any]]:
    rows = [[row["title"], row["domain"], *map(row.get, _MESS_SCORES)] for row in mess["datasets"]]
    for domain, mean in (*mess["domains"].items(), ("all", mess["mean"])):
        count = f"mean of {mean['evaluated']} of {mean['datasets']}"
        rows.append([count, domain, *map(mean.get, _MESS_SCORES)])
    return rows


def _asks_for_mess(outcomes: Iterable[DatasetOutcome]) -> bool:
    names = {name for dataset in MESS_DATASETS for name in dataset.names}
    return any(outcome.name in names for outcome in outcomes)


def _dataset_record(outcome: DatasetOutcome) -> dict[str, Any]:
    scores = {name: outcome.results[name] for name in SCORES} if outcome.results else None
    return {
        "name": outcome.name,
        "state": outcome.state,
        "detail": outcome.detail,
        "scores": scores,
    }


def _datasets_table(outcomes: Iterable[DatasetOutcome]) -> str:
    paper_names = {name: paper_name for paper_name, name in BENCHMARK_NAMES.items()}
    rows = [
        [
            outcome.name,
            paper_names.get(outcome.name, ""),
            outcome.state,
            *((outcome.results or {}).get(name) for name in _DATASET_COLUMNS),
            outcome.detail,
        ]
        for outcome in outcomes
    ]
    return markdown_table(["data set", "benchmark", "state", *_DATASET_COLUMNS, "remark"], rows)


def _published_table(own: Mapping[str, float | None], title: str) -> str:
    rows = [[f"**{title}**", "", "", "", *map(own.get, BENCHMARK_NAMES), "this run"]]
    rows += [_published_row(result) for result in published_results()]
    header = ["model", "venue", "backbones", "training set", *BENCHMARK_NAMES, "source"]
    return markdown_table(header, rows)


def _published_row(result: PublishedResult) -> list[Any]:
    return [
        result.model,
        result.venue,
        result.backbones,
        result.training_set + (" and more" if result.extra_data else ""),
        # With one digit, as they are printed.
        *(
            f"{result.scores[name]:.1f}" if name in result.scores else None
            for name in BENCHMARK_NAMES
        ),
        result.source,
    ]
