"""``escnet-d2``: its help, its commands, and that they are what the programs of old are."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from escnet_d2.commands import COMMANDS, main

REPO = Path(__file__).resolve().parents[1]


def run(*arguments, options=()):
    command = [sys.executable, *options, "-m", "escnet_d2", *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: escnet-d2 {name} ")
    assert f"\n    escnet-d2 {name}" in shown


@pytest.mark.skipif(sys.version_info < (3, 10), reason="does not tell what -m has been given")
def test_help_and_wrong_arguments_need_no_installed_package():
    # -S hides the environment's packages.
    assert "doctor" in run("--help", options=["-S"]).stdout
    done = run("segment", "--help", options=["-S"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "--vocabulary" in done.stdout
    done = run("segment", "--inputs", "a.jpg", options=["-S"])
    assert done.returncode == 2
    assert "escnet-d2 segment: error: " in done.stderr
    assert "invalid choice: 'segmnt'" in run("segmnt", options=["-S"]).stderr


def test_the_programs_of_the_repository_are_the_commands(load_program):
    for path, name in (("demo/demo.py", "segment"), ("train_net.py", "train")):
        command = importlib.import_module(f"escnet_d2.commands.{name}")
        assert load_program(path).main is command.main


def test_models_and_data_sets_are_there_for_a_command(tmp_path):
    # In a process of its own, which imports the package as the command line does.
    done = run("segment", "--input", "demo/images/00000.png", "--output", str(tmp_path / "out"),
               "--weights", "escnet_tiny_shapes", "--vocabulary", "shapes_val_sem_seg")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Configuration: escnet_tiny_shapes" in done.stderr
    assert (tmp_path / "out/labels/00000.png").is_file()
