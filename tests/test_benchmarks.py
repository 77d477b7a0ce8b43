"""The benchmark programs at tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch


@pytest.mark.slow
def test_models_against_each_other(start_program, tmp_path):
    report = tmp_path / "report.json"
    models = ["ESC-Net=escnet_tiny", "again=escnet_tiny MODEL.ESCNET.GRADIENT_CHECKPOINTING True"]
    done = start_program(
        "benchmarks/forward.py", "--models", *models, "--classes", 12, "--foreground", 5,
        "--repeats", 1, "--training", "--output", report,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = json.loads(report.read_text())["rows"]
    assert first["ratio"] == 1
    assert second["bytes"] < 0.8 * first["bytes"]
    for row in (first, second):
        assert row["parts"].keys() >= {"CLIP", "prompts", "SAM", "spatial", "decoder", "after"}
        assert all(seconds >= 0 for seconds in row["parts"].values())
        assert sum(row["parts"].values()) == pytest.approx(row["cpu_seconds"], rel=0.1)
        assert f"| 12 | {row['name']} |" in done.stdout


def test_every_model_runs_and_foreground_is_what_was_asked_for(load_program, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    forward = load_program("benchmarks/forward.py")
    prompts = []
    for name in ("cat_seg_tiny", "escnet_tiny", "sam_mi_tiny", "sed_tiny"):
        case = forward.Case(
            name=name, config=name, opts=(), classes=9, foreground=4, masks=3, device="cpu",
            threads=1, training=False,
        )  # fmt: skip
        run = forward.Run(case)
        (text,) = {id(m.text): m.text for m in run.model.modules() if hasattr(m, "text")}.values()
        assert text.encode(()).shape[0] == 9, "text is given"
        for block in getattr(run.model.sem_seg_head, "blocks", ()):
            block.register_forward_pre_hook(lambda _, inputs: prompts.append(inputs[4]))
        run()
        assert {"CLIP", "spatial", "class attention", "decoder", "after"} <= run.parts.keys()
        assert ("injection" in run.parts) == (name == "sam_mi_tiny")
    assert len(prompts) == 2
    assert all(own.has_foreground.sum() == 4 for own in prompts)


def test_a_folder_that_is_no_clone_is_named(start_program, tmp_path):
    done = start_program("benchmarks/forward.py", "--official-cat-seg", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"forward.py: error: {tmp_path} is no clone of cvlab-kaist/CAT-Seg: "
        "it has no configs/vitb_384.yaml."
    )


def test_class_names_are_embedded_as_by_open_clip(load_program, capsys, monkeypatch, tmp_path):
    small = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"width": 64, "heads": 2, "layers": 1, "vocab_size": 49408},
    }
    (tmp_path / "small.json").write_text(json.dumps(small))
    open_clip.add_model_config(tmp_path)
    program = load_program("benchmarks/text_encoder.py")
    program.main(["--model", "small", "--classes", "3", "--templates", "2", "--repeats", "1"])
    assert "| 3 | 2 | " in capsys.readouterr().out
    monkeypatch.setattr(program.TextEncoder, "encode", lambda *_: torch.ones(3, 1, 32))
    with pytest.raises(AssertionError, match="not close"):
        program.main(["--model", "small", "--classes", "3", "--repeats", "1"])
