"""The check of the CUDA kernels' register use."""

from __future__ import annotations

import pytest

REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN9escnet_d256_GLOBAL__N__0f3a_23_x_cu_e0eb6d6f\
28masked_kmeans_forward_kernelILi5EEEvNS_9WarpBatchE' for 'sm_80'
ptxas info    : Function properties for _ZN9escnet_d2
    0 bytes stack frame, {stores} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 76 registers, used 0 barriers, 432 bytes cmem[0]
ptxas info    : Compile time = 766.761 ms
ptxas info    : Compiling entry function 'plain' for 'sm_90'
ptxas info    : Function properties for plain
    {stack} bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers
"""


@pytest.fixture
def check(load_program):
    return load_program("tools/check_cuda_build.py")


def test_reading_the_report(check):
    first, second = check.parse_report(REPORT.format(stores=0, stack=0))
    assert first == check.Kernel("masked_kmeans_forward_kernel<5>", "sm_80", 76, 0, 0)
    assert second == check.Kernel("plain", "sm_90", 8, 0, 0)
    assert first.is_good
    assert second.is_good


@pytest.mark.parametrize(("stores", "stack"), [(4, 0), (0, 16), (0, 0)])
def test_spills_and_stack_frames_fail(check, monkeypatch, capsys, tmp_path, stores, stack):
    monkeypatch.setattr(check, "find_cuda", lambda: tmp_path)
    monkeypatch.setattr(check, "_run", lambda command: REPORT.format(stores=stores, stack=stack))
    assert check.main([]) == int(stores + stack > 0)
    said = capsys.readouterr()
    assert ("passed: 2 kernels" in said.out) == (stores + stack == 0)
    assert ("1 of 2 kernels spill" in said.err) == (stores + stack > 0)


def test_a_report_of_another_form_is_an_error(check, monkeypatch, capsys, tmp_path):
    with pytest.raises(RuntimeError, match="can't read"):
        check.parse_report(REPORT.format(stores=0, stack=0).replace("Used 8 registers", ""))
    monkeypatch.setattr(check, "find_cuda", lambda: tmp_path)
    monkeypatch.setattr(check, "_run", lambda command: "")
    assert check.main([]) == 1  # no kernel at all


def test_without_a_toolkit_it_says_so(check, monkeypatch, capsys):
    monkeypatch.setattr(check, "find_cuda", lambda: None)
    assert check.main([]) == 0
    assert "CUDA check skipped" in capsys.readouterr().out
