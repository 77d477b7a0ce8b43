"""The targets of make, and the versions that `make setup` installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = "CONSTRAINTS=constraints.txt"
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str) -> subprocess.CompletedProcess:
    """Runs make as from a shell, free of the settings of a `make test` around it."""
    environ = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True
    )


@pytest.fixture(params=["venv", "a venv"])
def environment(request, tmp_path):
    """An environment that is set up, whose interpreter notes what it is asked to run."""
    folder = tmp_path / request.param
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> "{folder}/calls"\n'
        f'case "$*" in *" list "*) cat "{folder}/installed";; esac\n'
    )
    python.chmod(0o755)
    for name in ("calls", "installed", "escnet-setup"):
        (folder / name).touch()
    return folder


def is_due(environment: Path, *arguments: str) -> bool:
    """Tells whether `make setup` would install anything."""
    done = make("--dry-run", "setup", f"VENV={environment}", *arguments)
    assert done.returncode == 0, done.stderr
    return "pip" in done.stdout


def test_nothing_is_run_while_nothing_is_newer(environment):
    start = time.monotonic()
    done = make("--silent", "setup", f"VENV={environment}")
    assert time.monotonic() - start < 2
    assert (done.returncode, (environment / "calls").read_text()) == (0, ""), done.stderr


@pytest.mark.parametrize(
    "setting", ["CONSTRAINTS", "TORCH_SPEC", "DETECTRON2", "ESCNET_BUILD_EXT", "FORCE_CUDA"]
)
def test_a_setting_on_the_command_line_is_heeded(environment, setting):
    assert is_due(environment, f"{setting}=")


def test_newer_files_set_up_again(environment):
    stamp = environment / "escnet-setup"
    assert not is_due(environment)
    # Another torch, for which the extension must be compiled again.
    torch = environment / "lib" / "python3.9" / "site-packages" / "torch" / "version.py"
    torch.parent.mkdir(parents=True)
    torch.touch()
    os.utime(stamp, (time.time() - 60, time.time() - 60))
    os.utime(torch, (time.time() - 30, time.time() - 30))
    assert is_due(environment)
    for name in ("pyproject.toml", "setup.py", "constraints.txt", "tools/install_detectron2.py"):
        newer = ROOT / name
        os.utime(stamp, (newer.stat().st_mtime - 1,) * 2)
        os.utime(torch, (newer.stat().st_mtime - 2,) * 2)
        assert is_due(environment), name


@pytest.mark.parametrize(
    ("installed", "setting", "torch_command"),
    [
        pytest.param("", CONSTRAINTS, "-c constraints.txt torch torchvision", id="tested"),
        pytest.param("", "CONSTRAINTS=", "torch torchvision", id="newest"),
        pytest.param("torch==2.4.0a0+git1", CONSTRAINTS, None, id="what is there stays"),
        pytest.param(
            "torch==2.4.0a0+git1",
            "TORCH_SPEC=--no-index torch>=2.5 torchvision",
            "--no-index torch>=2.5 torchvision",
            id="pip decides",
        ),
    ],
)
def test_versions_of_torch_and_of_the_rest(environment, installed, setting, torch_command):
    (environment / "installed").write_text(f"numpy==1.26\n{installed}\n")
    done = make("setup", f"VENV={environment}", setting)
    assert done.returncode == 0, done.stderr
    calls = (environment / "calls").read_text()
    commands = re.findall("install (.*torchvision)$", calls, re.M)
    assert commands == ([] if torch_command is None else [torch_command])
    assert f"-c {environment}/escnet-pins.txt --no-build-isolation" in calls
    pins = (environment / "escnet-pins.txt").read_text()
    assert re.findall("^torch.*", pins, re.M) == installed.split()
    assert ("numpy==" in pins) == (setting != "CONSTRAINTS=")
    assert not (ROOT / "=2.5").exists()


def test_a_step_that_fails_leaves_no_stamp(environment):
    (environment / "escnet-setup").unlink()
    python = environment / "bin" / "python"
    python.write_text(python.read_text() + 'case "$*" in *doctor*) exit 1;; esac\n')
    assert make("setup", f"VENV={environment}").returncode != 0
    assert not (environment / "escnet-setup").exists()


def test_make_setup_says_which_python_it_needs(tmp_path):
    old = tmp_path / "python3.8"
    # Runs what it is given after lying about the version.
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys\nsys.version_info = (3, 8, 18)\n'
        "sys.version = '3.8.18 (fake)'\n$2\"\n"
    )
    old.chmod(0o755)
    done = make("setup", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}")
    assert done.returncode != 0
    assert "Python 3.9 or newer is needed" in done.stderr
    assert "3.8.18" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_make_alone_lists_every_target():
    done = make()
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1)
    assert [line.split()[0] for line in done.stdout.splitlines()] == phony.split()


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_a_tested_version_is_stated_once_for_each_python(python):
    stated = {}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for requirement in (Requirement(line) for line in lines if not line.startswith("#")):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier))
            name = requirement.name.lower()
            assert name not in stated
            stated[name] = str(requirement.specifier)[2:]
    project = (ROOT / "pyproject.toml").read_text()
    block = project.partition("dependencies = [\n")[2].partition("\n]")[0]
    wanted = [*re.findall(r'^    "(.+)",$', block, re.M), "pytest>=7.4", "ruff", "setuptools<81"]
    assert len(wanted) > 15
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(stated[requirement.name.lower()]), requirement
