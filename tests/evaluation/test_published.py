"""Published figures: complete, with sources, as the papers' tables print them."""

import csv
from pathlib import Path

import pytest

from escnet_d2.evaluation.mess import classes_of_interest_miou
from escnet_d2.evaluation.published import BENCHMARK_NAMES, published_results

PAPERS = Path(__file__).resolve().parents[3] / "shared" / "papers"


@pytest.fixture
def shared_papers():
    if not PAPERS.is_dir():
        pytest.skip("the papers' figures are not beside this checkout")
    return PAPERS


def find(model, backbones, source="Table 1"):
    (result,) = [
        r
        for r in published_results()
        if (r.model, r.backbones) == (model, backbones) and source in r.source
    ]
    return result


def test_every_row_has_a_source_and_plausible_scores():
    results = published_results()
    assert len(results) == 34
    for result in results:
        assert result.source
        assert result.venue
        assert result.scores
        assert all(0 < score < 100 for score in result.scores.values())
    keys = [(r.model, r.backbones, r.source) for r in results]
    assert len(set(keys)) == len(keys)


def test_esc_net_as_its_table_1_prints_it():
    base = find("ESC-Net", "CLIP ViT-B/16").scores
    assert list(base.values()) == [13.3, 21.1, 35.6, 59.0, 97.3, 80.1]
    large = find("ESC-Net", "CLIP ViT-L/14").scores
    assert list(large.values()) == [18.1, 27.0, 41.8, 65.6, 98.3, 86.3]


def test_what_is_not_reported_is_absent():
    assert "PAS-20b" not in find("SED", "ConvNeXt-B").scores
    # Table 1 quotes SED's fast variant; the repository has the other one too.
    assert find("SED", "ConvNeXt-B").scores["A-847"] == 11.4
    assert find("SED", "ConvNeXt-B", "README").scores["A-847"] == 11.2


def test_other_data_and_backbones():
    result = find("OVSeg", "CLIP ViT-L/14 + Swin-B")
    assert result.extra_data
    assert not find("CAT-Seg", "CLIP ViT-B/16").extra_data


def test_rows_are_those_of_the_source(shared_papers):
    with (shared_papers / "published_results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [
        (row["model"], {name: float(row[name]) for name in BENCHMARK_NAMES if row[name]})
        for row in rows
    ]
    own = [(result.model, result.scores) for result in published_results()]
    assert own[: len(expected)] == expected


def record(iou, pixels_gt, pixels_pred):
    return {"IoU": iou, "pixels_gt": pixels_gt, "pixels_pred": pixels_pred}


def test_classes_of_interest():
    per_class = [
        record(80.0, 5, 5),  # "others", of no interest
        record(60.0, 3, 4),
        record(None, 0, 2),  # Only predicted: counts as 0.
        record(None, 0, 0),  # Nowhere: does not count.
    ]
    assert classes_of_interest_miou(per_class, [1, 2, 3]) == pytest.approx(30.0)
    assert classes_of_interest_miou(per_class, [0, 1]) == pytest.approx(70.0)
    assert classes_of_interest_miou(per_class, [3]) is None
