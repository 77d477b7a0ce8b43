"""projects/shapes/reproduce_shapes.py: which runs it starts, and what it makes of their results."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from escnet_d2.engine import load_config
from escnet_d2.evaluation.predictions import encode_label_map
from escnet_d2.projects.shapes import STUFF, THINGS

REPO = Path(__file__).resolve().parents[3]
FOLDER = REPO / "projects/shapes"


@pytest.fixture
def tool(monkeypatch, tmp_path, load_program):
    """The program as a module, which writes below ``tmp_path``."""
    monkeypatch.syspath_prepend(str(REPO / "projects/shapes"))
    module = load_program("projects/shapes/reproduce_shapes.py")
    document = tmp_path / "benchmarks.md"
    sections = ("methods", "ablations", "pretraining")
    marks = "".join(
        f"<!-- begin {name} -->\nold {name}\n<!-- end {name} -->\n" for name in sections
    )
    document.write_text(f"before\n{marks}after\n")
    monkeypatch.setattr(module, "REPO", tmp_path)
    monkeypatch.setattr(module, "DOCUMENT", document)
    monkeypatch.setattr(module, "IMAGES", tmp_path / "images")
    return module


def write_results(folder: Path, *, seen: float, unseen: float) -> None:
    """A results file as train_net.py writes it, with these IoUs of things, in percent."""
    iou = {thing.name: unseen if thing.is_unseen else seen for thing in THINGS}
    records = [{"name": name, "IoU": value} for name, value in iou.items()]
    records += [{"name": name, "IoU": 90.0} for name in STUFF]
    path = folder / "inference/shapes_val_sem_seg/results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"per_class": records, "boundary_mIoU": 12.5}), encoding="utf-8")


@pytest.fixture
def scene(monkeypatch, tmp_path):
    """A data set of one scene: two objects of two pixels each on ground."""
    labels = np.array([[10, 10, 20, 20, 0]], np.uint8)
    instances = np.array([[1, 1, 2, 2, 0]], np.uint8)
    for name, array in (("labels", labels), ("instances", instances)):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.fromarray(array).save(tmp_path / "val" / name / "00000.png")
    sample = {
        "file_name": str(tmp_path / "val/images/00000.png"),
        "sem_seg_file_name": str(tmp_path / "val/labels/00000.png"),
    }
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: [sample])
    return sample


def arguments(monkeypatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce_shapes.py", "--output", "runs", *options])


def test_the_table_has_means_ranges_and_paired_differences(tool, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    for seed, (own, other) in enumerate([(60.0, 58.0), (62.0, 61.0), (64.0, 57.0)], start=1):
        write_results(runs / f"escnet_tiny_shapes/seed{seed}", seen=own, unseen=50.0)
        write_results(runs / f"escnet_tiny_shapes_no_sam/seed{seed}", seen=other, unseen=51.0)
    write_results(runs / "zero_shot_clip_shapes/eval", seen=30.0, unseen=31.0)
    arguments(monkeypatch, "--report-only", "--tables", "methods")
    assert tool.main() == 0

    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "benchmarks.md").read_text().splitlines()
        if line.startswith("|")
    ]
    by_title = {}
    for cells in lines:
        by_title.setdefault(cells[0], []).append(cells[1:])
    own = by_title["ESC-Net"]
    assert own[0][:4] == ["3", "90.0 (90.0..90.0)", "62.0 (60.0..64.0)", "50.0 (50.0..50.0)"]
    # 2ab / (a + b) of 60, 62, 64 with 50: 54.5, 55.4, 56.1.
    assert own[0][-2:] == ["55.3 (54.5..56.1)", "12.5 (12.5..12.5)"]
    scores, gaps = by_title["without SAM"]
    assert scores[2] == "58.7 (57.0..61.0)"
    assert gaps == ["3", "+3.3 (+1.0..+7.0)", "-1.0 (-1.0..-1.0)"]
    assert by_title["zero-shot CLIP"][0][:3] == ["1", "90.0", "30.0"]
    assert "SED" not in by_title
    assert by_title["clip_convnext_shapes"][0][2] == "0.70"  # the shapes, by the manifest
    assert len(by_title["sam_shapes"][0]) == 4
    assert [path.name for path in tmp_path.glob("images/*.png")] == ["shapes_methods.png"]
    text = (tmp_path / "benchmarks.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert re.findall("old .*", text) == ["old ablations"], "that table was not asked for"


def test_a_table_has_its_variants_and_stays_without_runs(tool, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    for name in ("escnet_tiny_shapes", "escnet_tiny_shapes_guidance", "cat_seg_tiny_shapes"):
        write_results(runs / name / "seed1", seen=60.0, unseen=50.0)
    arguments(monkeypatch, "--report-only")
    assert tool.main() == 0
    text = (tmp_path / "benchmarks.md").read_text()
    methods, ablations = text.split("<!-- begin ablations -->")
    assert "CAT-Seg" in methods and "fused map alone" not in methods
    assert "CAT-Seg" not in ablations and "fused map alone" in ablations
    assert "| ESC-Net" in methods and "| ESC-Net" in ablations
    arguments(monkeypatch, "--report-only", "--output", "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    assert tool.main() == 0
    assert (tmp_path / "benchmarks.md").read_text() == text


def test_the_errors_are_read_from_the_predictions(tool, scene, tmp_path, monkeypatch):
    folder = tmp_path / "runs/escnet_tiny_shapes/seed1"
    write_results(folder, seen=60.0, unseen=50.0)
    # One pixel of the second object has the name of the first, one of the first that of ground.
    labels = np.array([[10, 0, 20, 10, 0]])
    records = encode_label_map(labels, "elsewhere/val/images/00000.png")
    path = folder / "inference/shapes_val_sem_seg/sem_seg_predictions.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    arguments(monkeypatch, "--report-only", "--seeds", "1", "--tables", "methods")
    assert tool.main() == 0
    lines = (tmp_path / "benchmarks.md").read_text().splitlines()
    titled = [line for line in lines if line.startswith("| ESC-Net")]
    assert len(titled) == 2, "scores, errors"
    cells = [cell.strip() for cell in titled[1].strip("|").split("|")]
    # Outvoted is the pixel of the second object that is right: of two names with as many pixels
    # the first class wins.
    assert cells[1:6] == ["50.0", "0.0", "25.0", "25.0", "25.0"]


def test_only_missing_runs_are_started_and_failures_are_told(tool, tmp_path, monkeypatch, capsys):
    started = []

    def run(command, *, cwd, env, **_options):
        folder = Path(command[command.index("OUTPUT_DIR") + 1])
        started.append((command[command.index("--config-file") + 1], folder.name))
        assert env["OMP_NUM_THREADS"] == "1"
        assert "--resume" in command or "--eval-only" in command
        if folder.name == "seed2":
            return SimpleNamespace(returncode=1)
        write_results(cwd / folder, seen=50.0, unseen=40.0)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(tool.subprocess, "run", run)
    write_results(tmp_path / "runs/escnet_tiny_shapes/seed1", seen=60.0, unseen=50.0)
    variants = ["--variants", "escnet_tiny_shapes", "cat_seg_tiny_shapes", "zero_shot_clip_shapes"]
    arguments(monkeypatch, *variants, "--seeds", "1", "2", "--jobs", "1")
    assert tool.main() == 1
    assert sorted(started) == [
        ("cat_seg_tiny_shapes", "seed1"),
        ("cat_seg_tiny_shapes", "seed2"),
        ("escnet_tiny_shapes", "seed2"),
        ("zero_shot_clip_shapes", "eval"),
    ]
    assert "Failed: escnet_tiny_shapes, seed 2" in capsys.readouterr().err
    table = json.loads((tmp_path / "runs/results.json").read_text(encoding="utf-8"))
    assert table["cat_seg_tiny_shapes"]["1"]["seen things"] == pytest.approx(50.0)
    assert list(table["escnet_tiny_shapes"]) == ["1"]


def test_variants_differ_in_their_options(tool, tmp_path, monkeypatch):
    commands = {}

    def run(command, *, cwd, **_options):
        folder = Path(command[command.index("OUTPUT_DIR") + 1])
        commands[folder.parent.name] = command
        write_results(cwd / folder, seen=50.0, unseen=40.0)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(tool.subprocess, "run", run)
    names = ["sam_mi_tiny_shapes_true_masks", "escnet_tiny_shapes_50_scenes", "sam_mi_tiny_shapes"]
    arguments(monkeypatch, "--variants", *names, "--seeds", "1", "--jobs", "1")
    assert tool.main() == 0
    assert list(commands) == [names[2], names[1], names[0]], (
        "weights come before what evaluates them"
    )
    scenes = commands["escnet_tiny_shapes_50_scenes"]
    assert scenes[-2:] == ["DATASETS.TRAIN", "('shapes_train_50_sem_seg',)"]
    assert "--resume" in scenes and "MODEL.WEIGHTS" not in scenes
    masks = commands["sam_mi_tiny_shapes_true_masks"]
    assert "--eval-only" in masks and masks[-2:] == ["MODEL.MASKS.SOURCE", "truth"]
    weights = masks[masks.index("MODEL.WEIGHTS") + 1]
    assert weights == "runs/sam_mi_tiny_shapes/seed1/model_final.pth"


def test_every_variant_has_its_configuration(tool):
    assert len({variant.name for variant in tool.VARIANTS}) == len(tool.VARIANTS)
    for variant in tool.VARIANTS:
        load_config(variant.config, variant.opts)
        assert variant.weights_of in {"", *(other.name for other in tool.VARIANTS)}


def test_a_section_is_replaced_between_its_marks(tool, tmp_path):
    replace_section = sys.modules["markdown_section"].replace_section
    file = tmp_path / "page.md"
    file.write_text("# A\n<!-- begin x -->\nold\n<!-- end x -->\nrest <!-- begin y -->\n")
    replace_section(file, "x", "new\n")
    text = "# A\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nrest <!-- begin y -->\n"
    assert file.read_text() == text
    replace_section(file, "x", "new")
    assert file.read_text() == text
    for name in ("y", "z"):
        with pytest.raises(ValueError, match=f"<!-- begin {name} -->"):
            replace_section(file, name, "new")
    assert file.read_text() == text
