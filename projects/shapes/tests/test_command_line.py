"""The programs of pre-training: from a few steps to an export, or a refusal below the gate."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from escnet_d2.projects.shapes.pretraining.loop import argument_parser, train_and_measure


class Scale(nn.Module):
    """Learns one number."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        return {"loss": ((self.value - batch) ** 2).sum()}


def batches(start):
    while True:
        yield 0.5


@pytest.mark.parametrize(("wanted", "passes"), [(0.3, True), (0.9, False)])
def test_only_what_passes_the_gate_is_worth_an_export(tmp_path, caplog, wanted, passes):
    arguments = ["--output", str(tmp_path), "--max-iter", "3"]
    args = argument_parser("", max_iter=9, batch_size=1).parse_args(arguments)
    model = Scale()
    passed = train_and_measure(args, model, batches, lambda: {"share": 0.5}, gate=("share", wanted))
    assert passed is passes
    assert not model.training
    assert 0.5 < model.value.item() < 1
    written = json.loads((tmp_path / "accuracy.json").read_text(encoding="utf-8"))
    assert written["share"] == 0.5
    assert written["iterations"] == 3
    assert ("below" in caplog.text) is not passes


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("pretrain_clip.py --output {0} --config-file no_such", "no_such"),
        ("pretrain_clip.py --output {0} --text-tower {0}/no.safetensors", "no.safetensors"),
        ("pretrain_clip.py --output {0} --text-tower sam_shapes", "does not fit: missing"),
        ("pretrain_sam.py --output {0} --config-file no_such", "no_such"),
        (
            "ship_weights.py x {0}/no.pth --config-file x --command x --metrics {0}/no.json",
            "no.json",
        ),
    ],
)
def test_a_mistake_is_one_line(command, message, tmp_path, run_program):
    program, *arguments = command.format(tmp_path).split()
    done = run_program(f"projects/shapes/{program}", *arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("program", ["pretrain_clip", "pretrain_sam", "reproduce_shapes"])
def test_the_programs_say_what_they_take(program, run_program):
    done = run_program(f"projects/shapes/{program}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "--output" in done.stdout
