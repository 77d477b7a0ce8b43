"""tools/reproduce_shapes.py: which runs it starts, and what it makes of their results."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from escnet_d2.data.shapes import STUFF, THINGS

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The program as a module, which writes below ``tmp_path``."""
    monkeypatch.syspath_prepend(str(REPO / "tools"))
    spec = importlib.util.spec_from_file_location("reproduce", REPO / "tools/reproduce_shapes.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reproduce", module)
    spec.loader.exec_module(module)
    document = tmp_path / "benchmarks.md"
    document.write_text("before\n<!-- begin shapes -->\nold\n<!-- end shapes -->\nafter\n")
    monkeypatch.setattr(module, "REPO", tmp_path)
    monkeypatch.setattr(module, "DOCUMENT", document)
    monkeypatch.setattr(module, "PLOT", tmp_path / "images/plot.png")
    return module


def write_results(folder: Path, *, seen: float, unseen: float) -> None:
    """A results file as train_net.py writes it, with these IoUs of things, in percent."""
    iou = {thing.name: unseen if thing.is_unseen else seen for thing in THINGS}
    records = [{"name": name, "IoU": value} for name, value in iou.items()]
    records += [{"name": name, "IoU": 90.0} for name in STUFF]
    path = folder / "inference/shapes_val_sem_seg/results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"per_class": records}), encoding="utf-8")


def arguments(monkeypatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce_shapes.py", "--output", "runs", *options])


def test_the_table_has_means_ranges_and_paired_differences(tool, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    for seed, (own, other) in enumerate([(60.0, 58.0), (62.0, 61.0), (64.0, 57.0)], start=1):
        write_results(runs / f"escnet_tiny_shapes/seed{seed}", seen=own, unseen=50.0)
        write_results(runs / f"escnet_tiny_shapes_no_sam/seed{seed}", seen=other, unseen=51.0)
    write_results(runs / "zero_shot_clip_shapes/eval", seen=30.0, unseen=31.0)
    arguments(monkeypatch, "--report-only")
    assert tool.main() == 0

    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "benchmarks.md").read_text().splitlines()
        if line.startswith("|")
    ]
    by_title = {}
    for cells in lines:
        by_title.setdefault(cells[0], []).append(cells[1:])
    own = by_title["ESC-Net (N = 2, points and masks, softmax over classes)"]
    assert own == [
        ["3", "90.0 (90.0 to 90.0)", "62.0 (60.0 to 64.0)", "50.0 (50.0 to 50.0)"] + [own[0][-1]]
    ]
    # 2ab / (a + b) of 60, 62, 64 with 50: 54.5, 55.4, 56.1.
    assert own[0][-1] == "55.3 (54.5 to 56.1)"
    scores, gaps = by_title["without the SAM block"]
    assert scores[2] == "58.7 (57.0 to 61.0)"
    assert gaps == ["3", "+3.3 (+1.0 to +7.0)", "-1.0 (-1.0 to -1.0)"]
    assert by_title["zero-shot CLIP"][0][:3] == ["1", "90.0", "30.0"]
    assert "SED" not in by_title
    assert (tmp_path / "images/plot.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "benchmarks.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text


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


def test_every_variant_has_its_configuration(tool):
    for variant in tool.VARIANTS:
        assert (REPO / f"configs/shapes/{variant.config}.yaml").is_file()
