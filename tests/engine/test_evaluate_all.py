"""escnet-d2 evaluate: one model, many data sets, whatever becomes of each of them."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from PIL import Image

from escnet_d2.commands import evaluate as evaluate_command
from escnet_d2.data.datasets import all_datasets
from escnet_d2.data.datasets.mess import MESS_DATASETS
from escnet_d2.engine import evaluation_run
from escnet_d2.engine.console import EXIT_USAGE_ERROR
from escnet_d2.evaluation.mess import mess_scores
from escnet_d2.evaluation.tables import DatasetOutcome, write_benchmarks

VOC, VOC_B, A150 = (
    "voc_2012_test_sem_seg",
    "voc_2012_test_background_sem_seg",
    "ade20k_150_test_sem_seg",
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two images of PAS-20 and PAS-20b and one of A-150; nothing else is prepared."""
    folder = tmp_path / "data"
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder))
    generator = np.random.default_rng(0)
    for name, count in ((VOC, 2), (VOC_B, 2), (A150, 1)):
        dataset = all_datasets()[name]
        images, labels = dataset.prepared_folders(folder)
        for directory in (images, labels):
            directory.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(image).save(images / f"{index}.jpg")
            values = generator.integers(0, len(dataset.classes), (40, 60), dtype=np.uint8)
            Image.fromarray(values).save(labels / f"{index}.png")
    return folder


@pytest.fixture
def evaluate(tmp_path, run_program):
    """Runs the program; returns its exit code, or its usage error, and ``benchmarks.json``."""

    def run(*arguments, output=tmp_path / "out", program=run_program):
        file = output / "inference/benchmarks.json"
        file.unlink(missing_ok=True)
        command = ("escnet-d2", "evaluate", "--config-file", "escnet_tiny", *arguments)
        done = program(*command, "OUTPUT_DIR", output)
        code = done.stderr if done.returncode == EXIT_USAGE_ERROR else done.returncode
        return code, json.loads(file.read_text()) if file.is_file() else None

    return run


def states(report):
    return {record["name"]: record["state"] for record in report["datasets"]}


def expect_images(monkeypatch, **counts):
    for name, count in counts.items():
        metadata = MetadataCatalog.get(name)
        monkeypatch.setitem(vars(metadata), "expected_images", count)


def test_a_run_over_the_benchmarks(evaluate, root, tmp_path, monkeypatch):
    expect_images(monkeypatch, **{VOC: 2, VOC_B: 2})
    code, report = evaluate("--title", "Tiny", "--overlay", "benchmarks")
    assert code == 1  # A-150 is incomplete.
    found = {record["name"]: record for record in report["datasets"]}
    assert len(found) == 6
    assert found[VOC]["state"] == found[VOC_B]["state"] == "evaluated"
    assert found[VOC]["scores"]["num_classes"] == 20
    assert found[VOC_B]["scores"]["num_classes"] == 21
    assert found[A150]["state"] == "failed"
    assert "1 labeled images, expected 2000" in found[A150]["detail"]
    missing = found["context_459_test_sem_seg"]
    assert missing["state"] == "skipped"
    assert "pc459_val" in missing["detail"]

    log = (tmp_path / "out/log.txt").read_text()
    assert "entries computed per view: 20.0 in the mean, 20 at most, of 2 views" in log
    # No model keeps the scores of all classes at the size of a photo.
    assert "LABEL_MAP_ONLY: true" in (tmp_path / "out/inference/config.yaml").read_text()
    folder = tmp_path / "out/inference"
    own = json.loads((folder / VOC / "results.json").read_text())["mIoU"]
    assert own == found[VOC]["scores"]["mIoU"]
    with (folder / "benchmarks.csv").open(newline="") as file:
        first, *published = list(csv.DictReader(file))
    assert first["model"] == "Tiny"
    assert float(first["PAS-20"]) == own
    assert first["A-847"] == ""
    assert [row["A-847"] for row in published if row["model"] == "CAT-Seg"] == ["12.0", "16.0"]
    text = (folder / "benchmarks.md").read_text()
    assert "| **Tiny** " in text
    assert list(json.loads((folder / "summary.json").read_text())) == [VOC, VOC_B]


def test_finished_data_sets_are_kept_and_never_mixed(evaluate, root, tmp_path, monkeypatch):
    expect_images(monkeypatch, **{VOC: 2, VOC_B: 2, A150: 1})
    folder = tmp_path / "out/inference"
    assert evaluate("--datasets", "PAS-20")[0] == 0
    written = (folder / VOC / "results.json").stat().st_mtime_ns
    # The list of data sets is free, and tables cover what is in the folder.
    code, report = evaluate("--datasets", "A-150")
    assert (code, states(report)) == (0, {A150: "evaluated", VOC: "kept"})
    assert report["datasets"][1]["scores"]["num_images"] == 2
    assert list(json.loads((folder / "summary.json").read_text())) == [A150, VOC]
    code, report = evaluate("--datasets", f"A-150,PAS-20,{VOC_B}")
    assert (code, states(report)) == (0, {A150: "kept", VOC: "kept", VOC_B: "evaluated"})
    assert (folder / VOC / "results.json").stat().st_mtime_ns == written

    # Another configuration: refused as long as one result of the old one would stay.
    config = (tmp_path / "out/inference/config.yaml").read_text()
    change = ("INPUT.MIN_SIZE_TEST", "64")
    for arguments in ((), ("--rerun",)):
        code, report = evaluate("--datasets", "PAS-20", *arguments, *change)
        assert report is None
        assert "differs: INPUT.MIN_SIZE_TEST. Choose another OUTPUT_DIR" in code
        assert "--rerun" in code
        assert A150 in code
    assert (tmp_path / "out/inference/config.yaml").read_text() == config
    every = ("--datasets", f"A-150,PAS-20,{VOC_B}", "--rerun")
    code, report = evaluate(*every, *change)
    assert set(states(report).values()) == {"evaluated"}
    assert (folder / VOC / "results.json").stat().st_mtime_ns != written


def test_what_is_not_finished_is_evaluated_again(evaluate, root, tmp_path, monkeypatch):
    expect_images(monkeypatch, **{VOC: 2})
    arguments = ("--datasets", "PAS-20")
    file = tmp_path / "out/inference" / VOC / "results.json"
    evaluate(*arguments)
    # Of fewer images than there are by now, and left by a training.
    for spoil in (
        lambda: file.write_text('{"num_images": 1}'),
        lambda: file.write_text("{"),
        lambda: (tmp_path / "out/last_checkpoint").write_text("model_final.pth"),
    ):
        spoil()
        assert states(evaluate(*arguments)[1]) == {VOC: "evaluated"}
        assert json.loads(file.read_text())["num_images"] == 2
    (tmp_path / "out/last_checkpoint").unlink()
    (tmp_path / "out/inference/config.yaml").unlink()
    code, report = evaluate(*arguments)
    assert report is None
    assert "its config.yaml is missing" in code


def test_a_killed_rerun_leaves_no_old_results(evaluate, root, tmp_path, monkeypatch):
    expect_images(monkeypatch, **{VOC: 2})
    evaluate("--datasets", "PAS-20")
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_run, "evaluate_datasets", lambda *_, **__: sys.exit("killed"))
        arguments = ("--datasets", "PAS-20", "--rerun", "INPUT.MIN_SIZE_TEST", "64")
        assert evaluate(*arguments)[0] == "killed"
    _, report = evaluate("--datasets", "PAS-20", "INPUT.MIN_SIZE_TEST", "64")
    assert states(report) == {VOC: "evaluated"}


# Of the label map in this process, of the photo in a process of the loader.
@pytest.mark.parametrize(("kind", "suffix", "workers"), [(1, "png", 0), (0, "jpg", 1)])
def test_a_data_set_that_fails_does_not_stop_the_others(
    evaluate, root, tmp_path, monkeypatch, kind, suffix, workers
):
    expect_images(monkeypatch, **{VOC: 2, A150: 1})
    damaged = all_datasets()[A150].prepared_folders(root)[kind] / f"0.{suffix}"
    damaged.write_bytes(b"no image")
    options = ("--datasets", "A-150,PAS-20", "DATALOADER.NUM_WORKERS", str(workers))
    code, report = evaluate(*options)
    assert code == 1
    assert states(report) == {A150: "failed", VOC: "evaluated"}
    detail = report["datasets"][0]["detail"]
    assert detail.startswith("ValueError: ")
    assert str(damaged) in detail
    assert "Traceback" not in detail
    assert "\n" not in detail


def run_out_of_memory(self, batch):
    raise torch.cuda.OutOfMemoryError


def test_a_programming_error_is_an_error(evaluate, root, tmp_path, monkeypatch):
    expect_images(monkeypatch, **{VOC: 2})
    for error in (TypeError, KeyError, AttributeError, RuntimeError):

        def fail(self, batch, error=error):
            raise error("a mistake")

        monkeypatch.setattr(META_ARCH_REGISTRY.get("ESCNet"), "forward", fail)
        with pytest.raises(error, match="a mistake"):
            evaluate("--datasets", "PAS-20")
    monkeypatch.setattr(META_ARCH_REGISTRY.get("ESCNet"), "forward", run_out_of_memory)
    code, report = evaluate("--datasets", "PAS-20")
    assert (code, states(report)) == (1, {VOC: "failed"})


def test_class_names_of_a_release(evaluate, root, tmp_path, monkeypatch):
    expect_images(monkeypatch, **{VOC: 2, VOC_B: 2})
    code, report = evaluate("--datasets", "PAS-20,PAS-20b", "VOCABULARY.TEST", "fcclip")
    assert code == 0
    assert states(report) == {VOC: "evaluated", VOC_B: "skipped"}
    assert "no 'fcclip' class list" in report["datasets"][1]["detail"]
    arguments = ("--datasets", "PAS-20", "VOCABULARY.TEST", "no_such_list.txt")
    code, report = evaluate(*arguments, output=tmp_path / "other")
    assert (code, states(report)) == (1, {VOC: "failed"})
    assert "no_such_list.txt" in report["datasets"][0]["detail"]


def test_later_options_win(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("DATASETS:\n  TEST: ('a',)\nTEST:\n  SLIDING_WINDOW: True\n")

    def settings(*arguments):
        args = evaluate_command.argument_parser().parse_args(["--config-file", "x", *arguments])
        options = evaluate_command.all_options(args)
        return dict(zip(options[::2], options[1::2]))

    # The configuration's own data sets are left alone.
    assert settings() == {}
    overlays = ("--overlay", str(file), "--overlay", "whole_image")
    assert settings(*overlays) == {"DATASETS.TEST": "('a',)", "TEST.SLIDING_WINDOW": False}
    last = settings(*overlays, "--datasets", "A-847, PC-59", "TEST.SLIDING_WINDOW", "True")
    assert last == {
        "DATASETS.TEST": ("ade20k_full_sem_seg_freq_val_all", "context_59_test_sem_seg"),
        "TEST.SLIDING_WINDOW": "True",
    }


def test_drawn_data_are_drawn(evaluate, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "empty"))
    code, report = evaluate("--datasets", "shapes_demo_sem_seg")
    assert (code, states(report)) == (0, {"shapes_demo_sem_seg": "evaluated"})


@pytest.fixture
def mess_metadata():
    """Metadata like mess-benchmark's, of all its data sets."""
    for dataset in MESS_DATASETS:
        for name in dataset.names:
            MetadataCatalog.get(name).set(classes_of_interest=[1])


def mess_result(iou):
    """Results of two classes: "others" at 90 and the class of interest at ``iou``."""
    per_class = [{"IoU": value, "pixels_gt": 1, "pixels_pred": 1} for value in (90.0, float(iou))]
    return {"mIoU_gt_or_pred": (90.0 + iou) / 2, "per_class": per_class}


def test_mess_by_domain(mess_metadata):
    parts = [f"paxray_sem_seg_test_{p}" for p in ("lungs", "bones", "mediastinum", "diaphragm")]
    results = {part: mess_result(iou) for part, iou in zip(parts, (10, 20, 30, 40))}
    results.update(chase_db1_sem_seg_test=mess_result(5), suim_sem_seg_test=mess_result(65))
    scores = mess_scores(results, MESS_DATASETS)
    by_title = {row["title"]: row for row in scores["datasets"]}
    assert len(by_title) == 22
    assert by_title["PAXRay-4"]["CoI_mIoU"] == pytest.approx(25.0)
    assert by_title["PAXRay-4"]["mIoU_gt_or_pred"] == pytest.approx(57.5)
    assert by_title["BDD100K"]["CoI_mIoU"] is None
    medical = scores["domains"]["Medical Sciences"]
    assert medical["CoI_mIoU"] == pytest.approx((25 + 5) / 2)
    assert (medical["evaluated"], medical["datasets"]) == (2, 4)
    assert scores["domains"]["Engineering"]["CoI_mIoU"] is None
    # Over data sets, not over domains: PAXRay counts once.
    assert scores["mean"]["CoI_mIoU"] == pytest.approx((25 + 5 + 65) / 3)
    assert (scores["mean"]["evaluated"], scores["mean"]["datasets"]) == (3, 22)
    # Not from a part of it.
    part = mess_scores({parts[0]: mess_result(10)}, MESS_DATASETS)["mean"]
    assert (part["evaluated"], part["CoI_mIoU"]) == (0, None)


def test_tables_of_mess(mess_metadata, tmp_path):
    results = {
        **mess_result(65),
        **dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC", "boundary_mIoU"), 50.0),
        **dict.fromkeys(("mIoU_seen", "mIoU_unseen", "hIoU")),
        **dict.fromkeys(("num_classes", "num_classes_gt_or_pred", "num_images"), 2),
    }
    outcomes = [
        DatasetOutcome("suim_sem_seg_test", "evaluated"),
        DatasetOutcome("cwfid_sem_seg_test", "skipped", "not prepared"),
    ]
    text = write_benchmarks(
        outcomes,
        {"suim_sem_seg_test": results},
        tmp_path,
        title="Tiny",
        source="model.pth",
        mess=MESS_DATASETS,
    )
    assert "## MESS" in text
    assert "Beside published figures" not in text
    with (tmp_path / "mess.csv").open(newline="") as file:
        rows = {(row["data set"], row["domain"]): row for row in csv.DictReader(file)}
    assert rows["SUIM", "Agriculture and Biology"]["CoI-mIoU"] == "65.0"
    assert rows["mean of 1 of 3", "Agriculture and Biology"]["mIoU"] == "77.5"
    assert rows["mean of 1 of 22", "all"]["CoI-mIoU"] == "65.0"


@pytest.mark.slow
def test_two_processes_agree_with_one_and_on_failures(
    evaluate, root, tmp_path, tiny_model, start_program
):
    # One process of two has the damaged file; both must leave the data set and go on.
    damaged = all_datasets()[A150].prepared_folders(root)[1] / "0.png"
    damaged.write_bytes(b"no image")
    # Random weights would differ from process to process.
    torch.save({"model": tiny_model.state_dict()}, tmp_path / "model.pth")
    options = [
        *("--datasets", "A-150,PAS-20", "--allow-incomplete"),
        *("MODEL.WEIGHTS", str(tmp_path / "model.pth")),
        # Rounding differs with the size of the batch.
        *("TEST.IMS_PER_BATCH", "1"),
    ]
    code, alone = evaluate(*options)
    assert code == 1
    two = ("--num-gpus", 2, *options)
    code, together = evaluate(*two, output=tmp_path / "two", program=start_program)
    assert code != 0
    assert states(together) == states(alone) == {A150: "failed", VOC: "evaluated"}
    assert str(damaged) in together["datasets"][0]["detail"]
    assert together["datasets"][1]["scores"] == pytest.approx(alone["datasets"][1]["scores"])


def test_nothing_but_unprepared_sets_is_a_failure(evaluate, root, tmp_path):
    # Detectron2's own loader is asked, and says it in its way.
    code, report = evaluate("--datasets", "ade20k_sem_seg_val")
    assert code == 1
    assert states(report) == {"ade20k_sem_seg_val": "skipped"}
