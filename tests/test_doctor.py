"""The doctor's report and exit codes, with everything there and with things missing."""

from __future__ import annotations

import importlib.machinery
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from escnet_d2 import doctor
from escnet_d2.version import __version__

ROOT = Path(__file__).resolve().parents[1]


def run_doctor(*arguments: str, before: str = "", **environ: str) -> subprocess.CompletedProcess:
    """Runs the doctor in a process of its own, after the statements `before`."""
    program = f"import sys\n{before}\nfrom escnet_d2.doctor import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
        capture_output=True,
        text=True,
    )


def entries(report: dict, title: str) -> dict:
    return {entry["name"]: entry for entry in report["sections"][title]}


@pytest.mark.slow
def test_all_is_well_here(tmp_path):
    sam = tmp_path / "torch" / "hub" / "checkpoints" / "sam_vit_b_01ec64.pth"
    sam.parent.mkdir(parents=True)
    sam.write_bytes(b"1234")
    done = run_doctor(
        "--json",
        TORCH_HOME=str(tmp_path / "torch"),
        HF_HOME=str(tmp_path / "huggingface"),
        DETECTRON2_DATASETS=str(tmp_path / "benchmarks"),
    )
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert done.returncode == 0, done.stderr
    assert report["usable"] is True

    import numpy
    import torch

    packages = entries(report, "Packages")
    # torch.__version__ may have a build tag, which the metadata leaves out.
    assert torch.__version__.startswith(packages["torch"]["value"])
    assert packages["numpy"]["value"] == numpy.__version__
    assert "detectron2" in packages["detectron2 from"]["value"]
    assert "detectron2._C" in packages
    assert __version__ in entries(report, "Interpreter")["escnet_d2"]["value"]

    weights = entries(report, "Weights")
    assert weights["sam_vit_b"]["value"] == str(sam)
    assert "tools/download_weights.py clip_vit_b_16" in weights["clip_vit_b_16"]["value"]
    datasets = entries(report, "Data sets")
    assert str(tmp_path / "benchmarks") in datasets["looked for in"]["value"]
    assert datasets["ade20k_150_test_sem_seg"]["state"] == doctor.NOTE
    assert "ADEChallengeData2016" in datasets["ade20k_150_test_sem_seg"]["value"]


@pytest.mark.slow
def test_missing_detectron2_is_reported_with_its_cure():
    done = run_doctor(before="sys.modules['detectron2'] = None")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    repairs = done.stdout.partition("To repair:")[2]
    assert "detectron2: make setup" in repairs
    assert "--no-build-isolation 'git+https://github.com/facebookresearch/detectron2" in repairs
    assert "torch:" not in repairs


def test_nothing_at_all_installed_does_not_crash_it():
    hidden = ["torch", "torchvision", "detectron2", "open_clip", "segment_anything", "fvcore"]
    hidden += ["iopath", "pycocotools", "numpy", "PIL", "cv2", "safetensors", "huggingface_hub"]
    done = run_doctor("--json", before=f"sys.modules.update(dict.fromkeys({hidden}))")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    names = {problem["name"] for problem in report["problems"]}
    assert {requirement.distribution for requirement in doctor.REQUIREMENTS} <= names
    assert all(problem["fix"] for problem in report["problems"])


def test_a_broken_copy_of_this_package_is_a_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "escnet_d2.engine", None)
    monkeypatch.setattr(doctor, "REQUIREMENTS", ())
    sections = doctor.examine()
    assert [problem.name for problem in doctor.problems(sections)] == ["escnet_d2"]


def test_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "absent_package", None)
    entry = doctor.requirement_entry(doctor.Requirement("absent-package", ("absent_package",)))
    assert entry.state == doctor.PROBLEM
    assert entry.value == "missing"
    assert entry.fix == "make setup, or pip install 'absent-package'"


@pytest.mark.parametrize(
    "statement",
    [
        "raise ImportError('libcudart.so.12: cannot open shared object file')",
        "raise OSError('undefined symbol')",
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "import math; math.removed_alias",
    ],
)
def test_a_package_that_fails_to_import(tmp_path, monkeypatch, statement):
    (tmp_path / "broken_package.py").write_text(statement)
    monkeypatch.syspath_prepend(tmp_path)
    entry = doctor.requirement_entry(doctor.Requirement("broken-package", ("broken_package",)))
    assert entry.state == doctor.PROBLEM
    assert "its import fails" in entry.value
    assert entry.fix


def test_a_part_that_fails_to_import(tmp_path, monkeypatch):
    package = tmp_path / "half_package"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '1.0'")
    (package / "part.py").write_text("raise ImportError('gone')")
    monkeypatch.syspath_prepend(tmp_path)
    whole = doctor.Requirement("half-package", ("half_package", "half_package.part"))
    assert doctor.requirement_entry(whole).state == doctor.PROBLEM
    alone = doctor.requirement_entry(doctor.Requirement("half-package", ("half_package",)))
    assert (alone.state, alone.value) == (doctor.OK, "1.0")


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("2.2.0", doctor.OK),
        ("2.10.1+cu128", doctor.OK),
        ("3", doctor.OK),
        ("unreleased", doctor.OK),
        ("2.1.2", doctor.PROBLEM),
        ("1.13.0a0+git123", doctor.PROBLEM),
    ],
)
def test_an_old_package(tmp_path, monkeypatch, version, state):
    name = f"aged_{abs(hash(version))}"
    (tmp_path / f"{name}.py").write_text(f"__version__ = {version!r}")
    monkeypatch.syspath_prepend(tmp_path)
    entry = doctor.requirement_entry(doctor.Requirement("aged-package", (name,), (2, 2)))
    assert entry.state == state
    assert entry.value.startswith(version)
    if state == doctor.PROBLEM:
        assert entry.fix == "make setup, or pip install 'aged-package>=2.2'"


def test_a_folder_without_code_is_not_a_package(tmp_path, monkeypatch):
    # A data folder that happens to be called like the package, in the current folder.
    (tmp_path / "hollow_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    entry = doctor.requirement_entry(doctor.Requirement("hollow-package", ("hollow_package",)))
    assert entry.value == "missing"


def test_extension_not_built(tmp_path):
    entry = doctor.extension_entry(tmp_path)
    assert entry.state == doctor.NOTE
    assert "torch code" in entry.value


def test_extension_that_does_not_load(tmp_path):
    library = tmp_path / f"_C{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    library.write_bytes(b"not a library")
    entry = doctor.extension_entry(tmp_path)
    assert entry.state == doctor.PROBLEM
    assert str(library) in entry.fix


def test_extension_for_another_torch(tmp_path):
    library = tmp_path / f"_C{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    library.write_bytes(
        b"\0escnet_d2 extension built for torch 1.2.3+cu45 with CUDA with OpenMP;\0"
    )
    entry = doctor.extension_entry(tmp_path)
    assert entry.state == doctor.PROBLEM
    assert "torch 1.2.3+cu45" in entry.value
    assert torch.__version__ in entry.value
    assert "pip install --no-build-isolation" in entry.fix


def test_text_marks_problems_and_ends_with_the_repairs():
    sections = [
        doctor.Section(
            "Packages", [doctor.Entry("a", "1.0"), doctor.Entry("long name", "x", "note")]
        ),
        doctor.Section("Devices", [doctor.Entry("b", "missing", doctor.PROBLEM, "make b")]),
    ]
    lines = doctor.render(sections).splitlines()
    assert "    a          1.0" in lines
    assert "  ! b  missing" in lines
    assert lines[-2:] == ["To repair:", "  b: make b"]
    assert doctor.render(sections[:1]).splitlines()[-1] == "Everything needed is there."


def test_exit_codes_follow_the_report(monkeypatch, capsys):
    fine = [doctor.Section("Packages", [doctor.Entry("a", "1.0"), doctor.Entry("b", "-", "note")])]
    monkeypatch.setattr(doctor, "examine", lambda: fine)
    assert doctor.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["usable"] is True

    bad = [*fine, doctor.Section("Devices", [doctor.Entry("c", "-", doctor.PROBLEM, "mend c")])]
    monkeypatch.setattr(doctor, "examine", lambda: bad)
    assert doctor.main(["--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["usable"] is False
    assert report["problems"] == [
        {"name": "c", "value": "-", "state": "problem", "fix": "mend c"},
    ]
