"""Published scores on the open-vocabulary benchmarks, to stand beside one's own.

``published_results.csv`` is typed off papers and repositories; its column ``source`` says where a
row is from. ESC-Net's Table 1 quotes the other methods' scores. No row is a result of ours.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

# The papers' names of the benchmarks, in the order of their tables, and our registrations.
BENCHMARK_NAMES = {
    "A-847": "ade20k_full_sem_seg_freq_val_all",
    "PC-459": "context_459_test_sem_seg",
    "A-150": "ade20k_150_test_sem_seg",
    "PC-59": "context_59_test_sem_seg",
    "PAS-20": "voc_2012_test_sem_seg",
    "PAS-20b": "voc_2012_test_background_sem_seg",
}
PAPER_NAMES = {name: paper_name for paper_name, name in BENCHMARK_NAMES.items()}
_FILE = Path(__file__).with_name("published_results.csv")


@dataclass(frozen=True)
class PublishedResult:
    """One row of the file.

    Attributes:
        backbones: the CLIP model and what stands beside it, joined by " + ".
        extra_data: whether annotated data beyond ``training_set`` were used.
        scores: mIoU in percent by the papers' name of the benchmark, where it is reported.
        source: where the scores are printed.
    """

    model: str
    venue: str
    backbones: str
    training_set: str
    extra_data: bool
    scores: dict[str, float]
    source: str


def published_results() -> list[PublishedResult]:
    """Reads the rows, in the file's order."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return [
            PublishedResult(
                model=row["model"],
                venue=row["venue"],
                backbones=" + ".join(filter(None, (row["clip"], row["other_backbone"]))),
                training_set=row["training_set"],
                extra_data=row["extra_data"] == "yes",
                scores={name: float(row[name]) for name in BENCHMARK_NAMES if row[name]},
                source=row["source"],
            )
            for row in csv.DictReader(file)
        ]
