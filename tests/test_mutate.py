"""tools/mutate.py on a module of two functions."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "tools/mutate.py"
MODULE = """
def half(x):
    return x / 2
def share(part, whole):
    return part / whole
"""
TESTS = """
from shares import half, share
def test_shares():
    assert half(4) == 2
    assert share(1, 1) == 1
"""


@pytest.mark.slow
def test_faults_are_found_or_printed(tmp_path):
    (tmp_path / "shares.py").write_text(MODULE)
    (tmp_path / "test_shares.py").write_text(TESTS)
    command = [sys.executable, PROGRAM, "shares.py", "--tests", "test_shares.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert sorted(run.stdout.splitlines()) == [
        "3 of 5 faults found",
        "shares.py:5: part / whole -> part * whole",
        "shares.py:5: part / whole -> part / 1",
    ]
