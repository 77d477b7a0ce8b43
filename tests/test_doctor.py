"""The doctor's report and exit codes, with everything there and with things missing."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from escnet_d2.commands import doctor
from escnet_d2.version import __version__

ROOT = Path(__file__).resolve().parents[1]


def entries(report: dict, title: str) -> dict:
    return {entry["name"]: entry for entry in report["sections"][title]}


def test_all_is_well_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    code = doctor.main(["--json"])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["problems"]) == (0, [])
    assert report["usable"] is True

    packages = entries(report, "Requirements")
    # torch.__version__ may have a build tag, which the metadata leaves out.
    assert torch.__version__.startswith(packages["torch"]["value"])
    assert packages["numpy"]["value"] == importlib.metadata.version("numpy")
    assert "detectron2" in packages["detectron2"]["value"]
    assert __version__ in entries(report, "Package")["escnet_d2"]["value"]
    assert sys.version.split()[0] in entries(report, "Machine")["python_version"]["value"]
    assert report["sections"]["Weights"]
    datasets = entries(report, "Data sets")
    assert datasets["DETECTRON2_DATASETS"]["value"] == str(tmp_path)
    assert datasets["ade20k_150_test_sem_seg"]["state"] == doctor.NOTE
    assert "ADEChallengeData2016" in datasets["ade20k_150_test_sem_seg"]["value"]


def test_it_runs_where_nothing_is_installed():
    # -S hides the environment's packages.
    command = [sys.executable, "-S", "-m", "escnet_d2", "doctor"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No module named 'torch'" in done.stdout
    assert done.stdout.endswith(
        "To repair:\n  escnet_d2: make setup; then see Trouble in INSTALL.md\n"
    )


def test_a_missing_detectron2_is_reported_with_its_cure(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: None)
    # As a folder on PYTHONPATH it works.
    assert doctor.detectron2_entry().state == doctor.NOTE
    monkeypatch.delitem(sys.modules, "detectron2")
    entry = doctor.detectron2_entry()
    assert entry.state == doctor.PROBLEM
    assert entry.fix == "make setup, or python tools/install_detectron2.py"


def write_distribution(folder: Path, name: str, version: str, *lines: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    text = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines])
    (info / "METADATA").write_text(f"{text}\n")


def test_detectron2_from_its_repository_is_named_with_its_commit(tmp_path, monkeypatch):
    write_distribution(tmp_path, "detectron2", "0.6")
    source = {"url": "https://example.invalid/d2.git", "vcs_info": {"commit_id": "abc123"}}
    record = tmp_path / "detectron2-0.6.dist-info" / "direct_url.json"
    record.write_text(json.dumps(source))
    monkeypatch.syspath_prepend(tmp_path)
    value = doctor.detectron2_entry().value
    assert value == "detectron2 0.6 from https://example.invalid/d2.git at abc123"


@pytest.mark.parametrize(
    ("version", "value"),
    [
        ("2.2.0", "2.2.0"),
        ("2.10.1+cu128", "2.10.1+cu128"),
        ("2.4.0a0+git1", "2.4.0a0+git1"),
        ("3", "3"),
        ("2.1.2", "2.1.2, needed: aged>=2.2"),
        ("1.13.0a0+git123", "1.13.0a0+git123, needed: aged>=2.2"),
        (None, "missing, needed: aged>=2.2"),
    ],
)
def test_versions_are_compared_with_the_metadata(tmp_path, monkeypatch, version, value):
    lines = ("Requires-Dist: aged>=2.2", 'Requires-Dist: absent; extra == "dev"')
    write_distribution(tmp_path, "whole", "1.0", *lines)
    if version is not None:
        write_distribution(tmp_path, "aged", version)
    monkeypatch.syspath_prepend(tmp_path)
    entry, _ = doctor.requirement_entries("whole")
    assert (entry.name, entry.value) == ("aged", value)
    assert (entry.state == doctor.PROBLEM) == (entry.fix != "") == (value != version)
    if entry.fix:
        assert entry.fix == "make setup, or pip install 'aged>=2.2'"


@pytest.mark.parametrize(
    "statement",
    [
        "raise ImportError('libcudart.so.12: cannot open shared object file')",
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "import math; math.removed_alias",
        "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')",
    ],
)
def test_a_package_that_fails_to_import(tmp_path, monkeypatch, statement):
    (tmp_path / "broken_package.py").write_text(statement)
    monkeypatch.syspath_prepend(tmp_path)
    entry = doctor.import_entry("broken_package")
    assert entry.state == doctor.PROBLEM
    assert "its import fails" in entry.value
    assert entry.fix


def test_a_torch_that_cannot_use_numpy(monkeypatch):
    class Tensor:
        def numpy(self):
            raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch, "zeros", lambda *shape: Tensor())
    entry = doctor.import_entry()
    assert entry.state == doctor.PROBLEM
    assert "Numpy is not available" in entry.value


@pytest.mark.parametrize(
    ("content", "state", "value", "fix"),
    [
        (None, doctor.NOTE, "not built; torch code", ""),
        (b"not a library", doctor.PROBLEM, "", "{library}"),
        (
            b"\0escnet_d2 extension built for torch 1.2.3+cu45 with CUDA with OpenMP;\0",
            doctor.PROBLEM,
            "torch 1.2.3+cu45",
            "pip install --no-build-isolation",
        ),
    ],
)
def test_an_extension_that_is_not_there_or_does_not_fit(tmp_path, content, state, value, fix):
    library = tmp_path / f"_C{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    if content is not None:
        library.write_bytes(content)
    (entry,) = doctor.extension_entries(tmp_path)
    assert entry.state == state
    assert value in entry.value
    assert fix.format(library=library) in entry.fix


def report(*packages: doctor.Entry) -> dict:
    found = doctor.Entry("found", "complete")
    absent = [doctor.Entry(name, "missing", doctor.NOTE) for name in ("x", "y")]
    return {"Package": [*packages], "Weights": [found], "Data sets": [found, *absent]}


def test_a_report_without_problems_ends_with_what_works_and_what_does_not(monkeypatch, capsys):
    good = report(doctor.Entry("a", "1.0"), doctor.Entry("long name", "x"))
    monkeypatch.setattr(doctor, "examine", lambda: good)
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "    a          1.0" in lines
    assert lines[-2:] == [
        "Photos, training and evaluation on folders of your own work.",
        "Data sets that are not here yet (datasets/README.md): x, y.",
    ]


def test_a_report_marks_problems_and_ends_with_the_repairs(monkeypatch, capsys):
    bad = report(doctor.Entry("b", "gone", doctor.PROBLEM, "make b"))
    monkeypatch.setattr(doctor, "examine", lambda: bad)
    assert doctor.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "  ! b  gone" in lines
    assert lines[-2:] == ["To repair:", "  b: make b"]
    assert doctor.main(["--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["usable"] is False
    assert content["problems"] == [
        {"name": "b", "value": "gone", "state": "problem", "fix": "make b"}
    ]
