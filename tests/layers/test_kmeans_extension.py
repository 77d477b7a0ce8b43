"""Finding and loading the compiled extension, and doing without it."""

from __future__ import annotations

import importlib.machinery
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from escnet_d2.layers.extension import ExtensionError, find_extension, load_extension

REPO = Path(__file__).resolve().parents[2]
NAME = f"_C{importlib.machinery.EXTENSION_SUFFIXES[0]}"
needs_extension = pytest.mark.skipif(find_extension() is None, reason="needs the extension")


def record(version: str) -> bytes:
    return (
        f"\0escnet_d2 extension built for torch {version} without CUDA without OpenMP;\0".encode()
    )


def test_nothing_is_found_where_nothing_was_built(tmp_path):
    (tmp_path / "_C.cpython-27-other.so").touch()  # of another interpreter
    assert find_extension(tmp_path) is None
    assert load_extension(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged, or not built by this version"),
        (record("1.2.3+cu45"), r"built for torch 1\.2\.3\+cu45, but torch .* is installed"),
        (record(torch.__version__), "does not load"),
    ],
)
def test_a_library_that_does_not_fit(tmp_path, content, message):
    library = tmp_path / NAME
    library.write_bytes(content)
    with pytest.raises(ExtensionError, match=message) as caught:
        load_extension(tmp_path)
    assert str(library) in str(caught.value)
    assert f"{sys.executable} -m pip install --no-build-isolation --no-deps -e {REPO}" in str(
        caught.value
    )


@needs_extension
def test_what_was_built():
    extension = load_extension()
    assert extension.library == find_extension()
    assert extension.torch_version == torch.__version__


THREADS = """
import os, torch
from escnet_d2.layers import masked_kmeans
torch.set_num_threads(1)
scores, mask = torch.randn(400, 24, 24), torch.ones(400, 24, 24, dtype=torch.bool)
counts = []
for threads in (1, 3):
    torch.set_num_threads(threads)
    before = len(os.listdir("/proc/self/task"))
    masked_kmeans(scores, mask)
    counts.append(len(os.listdir("/proc/self/task")) - before)
print(*counts)
"""


@needs_extension
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux does")
def test_it_works_on_as_many_threads_as_torch():
    if not load_extension().has_openmp:
        pytest.skip("built by a compiler without OpenMP")
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "0 2", done.stderr


PROGRAM = """
import torch, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import escnet_d2
    from escnet_d2.layers import masked_kmeans
assert escnet_d2.__file__.startswith({root!r}), escnet_d2.__file__
print(*[str(w.message) for w in caught if "k-means" in str(w.message)])
torch.manual_seed(0)
scores, mask = torch.randn(4, 9, 8, requires_grad=True), torch.rand(4, 9, 8) < 0.4
result = masked_kmeans(scores, mask, 3)
raw = torch.ops.escnet_d2.masked_kmeans(scores, mask, 3, 10)
assert all(torch.equal(a, b) for a, b in zip(result, raw))
assert not any(x.requires_grad for x in raw)
meta = torch.ops.escnet_d2.masked_kmeans(scores.to("meta"), mask.to("meta"), 3, 10)
assert [x.shape for x in meta] == [x.shape for x in raw]
if hasattr(torch.library, "register_vmap"):
    mapped = torch.vmap(lambda s, m: tuple(masked_kmeans(s, m, 3)))(scores, mask)
    assert all(torch.equal(a, b) for a, b in zip(result, mapped))
torch.save([x.clone() for x in result], {root!r} + "/result.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("library", [None, record("1.2.3")], ids=["absent", "for another torch"])
def test_the_package_works_without_a_fitting_extension(tmp_path, library):
    from escnet_d2.layers import masked_kmeans

    no_builds = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(REPO / "escnet_d2", tmp_path / "escnet_d2", ignore=no_builds)
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    if library is not None:
        (tmp_path / "escnet_d2" / "layers" / NAME).write_bytes(library)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(root=str(tmp_path))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if library is None:
        assert done.stdout.strip() == ""
    else:
        assert "built for torch 1.2.3, but torch" in done.stdout
        assert "pip install" in done.stdout
    torch.manual_seed(0)
    scores, mask = torch.randn(4, 9, 8), torch.rand(4, 9, 8) < 0.4
    for got, want in zip(torch.load(tmp_path / "result.pt"), masked_kmeans(scores, mask, 3)):
        assert torch.equal(got, want)
