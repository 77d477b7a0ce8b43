"""The emulated warp, and every vector version of the CPU kernel, against the torch code.

All are built from the header that nvcc compiles for GPUs. Results must be equal bit by bit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from escnet_d2.layers.kmeans_reference import kmeans_reference

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "escnet_d2" / "layers" / "csrc"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
LACKS_INSTRUCTIONS = 77
SCORE_TYPES = [torch.float32, torch.float16, torch.bfloat16]
GRIDS = [(1, 1, 1), (1, 128, 5), (128, 1, 3), (2, 3, 8), (5, 7, 2), (24, 24, 5), (32, 31, 4),
         (33, 20, 6), (64, 64, 7), (65, 40, 5), (128, 128, 8)]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler"),
]


def build(folder: Path, name: str, *options: str) -> Path:
    program = folder / name
    source = HERE / "kmeans_programs" / f"{name}.cpp"
    command = [COMPILER, "-std=c++17", *options, "-pthread", f"-I{CSRC}"]
    done = subprocess.run(
        [*command, str(source), "-o", str(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def emulated_warp(tmp_path_factory):
    return build(tmp_path_factory.mktemp("warp"), "emulated_warp", "-O1", "-Wall", "-Werror")


@pytest.fixture(scope="module")
def serial_versions(tmp_path_factory):
    return build(tmp_path_factory.mktemp("serial"), "serial_versions", "-O3", "-Wall", "-Werror")


def solve(program: Path, scores, mask, k, max_iter, variant=0):
    """Runs a program; None where this machine lacks its instructions."""
    maps, height, width = mask.shape
    score_type = SCORE_TYPES.index(scores.dtype)
    header = torch.tensor([variant, score_type, maps, height, width, k, max_iter, 0])
    given = [header, scores.contiguous().view(torch.int8), mask.contiguous()]
    done = subprocess.run(
        [str(program)],
        input=b"".join(x.numpy().tobytes() for x in given),
        capture_output=True,
        timeout=300,
    )
    if done.returncode == LACKS_INSTRUCTIONS:
        return None
    assert done.returncode == 0, done.stderr.decode()
    pieces = [
        (torch.int8, (maps, height, width)),
        (torch.float32, (maps, k, 2)),
        (torch.int32, (maps, k)),
        (torch.int32, (maps, k)),
    ]
    results, start = [], 0
    for dtype, shape in pieces:
        count = torch.Size(shape).numel()
        results.append(
            torch.frombuffer(bytearray(done.stdout), dtype=dtype, count=count, offset=start)
        )
        results[-1] = results[-1].view(shape)
        start += count * dtype.itemsize
    assert start == len(done.stdout)
    return results


def assert_equal(results, expected):
    for name, got, want in zip(("labels", "centers", "counts", "points"), results, expected):
        assert got.dtype == want.dtype, name
        assert torch.equal(got, want), name


@pytest.mark.parametrize(("height", "width", "k"), GRIDS)
def test_the_emulated_warp(emulated_warp, hard_maps, height, width, k):
    scores, mask = hard_maps(height, width)
    expected = kmeans_reference(scores, mask, k, 10)
    assert_equal(solve(emulated_warp, scores, mask, k, 10), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("max_iter", [0, 1, 30])
def test_the_emulated_warp_with_half_precision(emulated_warp, hard_maps, dtype, max_iter):
    scores, mask = hard_maps(13, 17, dtype)
    expected = kmeans_reference(scores, mask, 5, max_iter)
    assert_equal(solve(emulated_warp, scores, mask, 5, max_iter), expected)


def test_the_lanes_of_a_warp_do_not_race(tmp_path, hard_maps):
    """The thread sanitizer sees memory that two lanes use with no barrier in between."""
    probe = tmp_path / "probe.cpp"
    probe.write_text("int main() {}")
    options = ["-fsanitize=thread", "-O1"]
    works = [COMPILER, *options, str(probe), "-o", str(tmp_path / "probe")]
    if subprocess.run(works, capture_output=True).returncode != 0:
        pytest.skip("this compiler has no thread sanitizer")
    program = build(tmp_path, "emulated_warp", *options)
    scores, mask = hard_maps(9, 11)
    assert_equal(solve(program, scores, mask, 5, 10), kmeans_reference(scores, mask, 5, 10))


@pytest.mark.parametrize("version", [0, 1, 2], ids=["baseline", "avx2", "avx512"])
@pytest.mark.parametrize(("height", "width", "k"), GRIDS)
def test_versions_of_the_cpu_kernel(serial_versions, hard_maps, height, width, k, version):
    scores, mask = hard_maps(height, width)
    results = solve(serial_versions, scores, mask, k, 10, version)
    if results is None:
        pytest.skip("this CPU lacks the instructions")
    assert_equal(results, kmeans_reference(scores, mask, k, 10))
