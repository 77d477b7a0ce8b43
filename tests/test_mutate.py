"""tools/mutate.py on a module of two functions."""

import pytest

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
def test_faults_are_found_or_printed(tmp_path, start_program):
    (tmp_path / "shares.py").write_text(MODULE)
    (tmp_path / "test_shares.py").write_text(TESTS)
    arguments = ("shares.py", "--tests", "test_shares.py")
    run = start_program("tools/mutate.py", *arguments, cwd=tmp_path)
    assert run.returncode == 1
    assert sorted(run.stdout.splitlines()) == [
        "3 of 5 faults found",
        "shares.py:5: part / whole -> part * whole",
        "shares.py:5: part / whole -> part / 1",
    ]
