"""The optional compiled extension."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from escnet_d2.layers.extension import load_extension

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def setup_py(load_program, monkeypatch):
    monkeypatch.chdir(ROOT)
    return load_program("setup.py")


def toolkit(folder: Path, *, headers: bool = True) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "nvcc").touch(mode=0o755)
    if headers:
        (folder / "include").mkdir()
        (folder / "include" / "cuda_runtime.h").touch()
    return folder


def test_the_cuda_toolkit_needs_compiler_and_headers(setup_py, tmp_path, monkeypatch):
    # An nvcc on the path that only calls another one passes for a toolkit with torch.
    wrapper = toolkit(tmp_path / "wrapper", headers=False)
    complete = toolkit(tmp_path / "complete")
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(wrapper / "bin"))
    assert setup_py.find_cuda() != wrapper
    monkeypatch.setenv("PATH", str(complete / "bin"))
    assert setup_py.find_cuda() == complete
    other = toolkit(tmp_path / "other")
    monkeypatch.setenv("CUDA_HOME", str(other))
    assert setup_py.find_cuda() == other
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "nowhere"))
    assert setup_py.find_cuda() == complete


@pytest.mark.parametrize(
    ("force", "toolkit", "cuda_of_torch", "expected"),
    [
        ("", Path("cuda"), "13.0", True),
        ("", Path("cuda"), None, False),
        ("", None, "13.0", False),
        ("0", Path("cuda"), "13.0", False),
        ("1", Path("cuda"), None, True),
    ],
)
def test_when_cuda_is_compiled(setup_py, monkeypatch, force, toolkit, cuda_of_torch, expected):
    monkeypatch.setenv("FORCE_CUDA", force)
    assert setup_py._wants_cuda(toolkit, cuda_of_torch, required=True) == expected


def test_cuda_that_was_asked_for_needs_a_toolkit(setup_py, monkeypatch):
    monkeypatch.setenv("FORCE_CUDA", "1")
    with pytest.raises(RuntimeError, match="FORCE_CUDA=1, but no CUDA toolkit"):
        setup_py._wants_cuda(None, "13.0", required=True)
    assert not setup_py._wants_cuda(None, "13.0", required=False)


def test_all_sources_are_compiled(setup_py):
    files = {Path(name).relative_to(setup_py.CSRC) for name in setup_py.sources(with_cuda=True)}
    on_disk = {
        path.relative_to(setup_py.CSRC)
        for path in setup_py.CSRC.rglob("*")
        if path.suffix in (".cpp", ".cu")
    }
    assert files == on_disk
    # Objects of a .cpp and a .cu with one name would overwrite each other.
    assert len({path.with_suffix("") for path in files}) == len(files)
    assert not any("cuda" in name for name in setup_py.sources(with_cuda=False))


def test_build_modes(setup_py, monkeypatch):
    for value, mode in {"": "auto", "AUTO": "auto", "0": "0", "1": "1"}.items():
        monkeypatch.setenv("ESCNET_BUILD_EXT", value)
        assert setup_py.build_mode() == mode
    monkeypatch.setenv("ESCNET_BUILD_EXT", "yes")
    with pytest.raises(ValueError, match="ESCNET_BUILD_EXT='yes': expected 0, 1 or auto"):
        setup_py.build_mode()


@pytest.mark.parametrize("missing", ["compiler", "torch"])
def test_a_missing_tool_stops_only_a_build_that_was_asked_for(
    setup_py, tmp_path, monkeypatch, missing
):
    (tmp_path / "op.cpp").write_text("")
    monkeypatch.setattr(setup_py, "CSRC", tmp_path)
    if missing == "compiler":
        monkeypatch.setattr(setup_py, "has_compiler", lambda: False)
    else:
        monkeypatch.setattr(setup_py, "has_compiler", lambda: True)
        monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.warns(UserWarning, match="extension left out"):
        assert setup_py.extension_options("auto") == {}
    with pytest.raises(RuntimeError, match="ESCNET_BUILD_EXT=1"):
        setup_py.extension_options("1")


# The real sources, which need a minute, are compiled by every installation.
WORKING_SOURCE = """\
#ifdef WITH_CUDA
extern "C" int answer() { return 0; }
#else
extern "C" int answer() { return 42; }
#endif
"""


def build_in_place(folder: Path, mode: str, **sources: str) -> subprocess.CompletedProcess:
    """Builds a toy package with this project's setup.py; ``sources`` by folder, cpu or cuda."""
    shutil.copy(ROOT / "setup.py", folder / "setup.py")
    (folder / "configs").mkdir()
    package = folder / "escnet_d2" / "layers"
    for kind, source in sources.items():
        (package / "csrc" / kind).mkdir(parents=True)
        suffix = ".cu" if kind == "cuda" else ".cpp"
        (package / "csrc" / kind / f"{kind}{suffix}").write_text(source)
    for path in (package, package.parent):
        (path / "__init__.py").touch()
    # One architecture, which needs no GPU to be found.
    settings = {"ESCNET_BUILD_EXT": mode, "MAX_JOBS": "1", "TORCH_CUDA_ARCH_LIST": "8.0"}
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )


BROKEN_SOURCE = "#error this can't be compiled\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "sources", "left_out", "answer"),
    [
        ("1", {"cpu": WORKING_SOURCE}, "", 42),
        ("1", {"cpu": BROKEN_SOURCE}, "", None),
        ("auto", {"cpu": BROKEN_SOURCE}, "compiled extension left out", None),
        ("auto", {"cpu": WORKING_SOURCE, "cuda": BROKEN_SOURCE}, "CUDA left out", 42),
    ],
    ids=["works", "fails", "may fail", "cuda may fail"],
)
def test_a_build(setup_py, tmp_path, mode, sources, left_out, answer):
    if not setup_py.has_compiler():
        pytest.skip("needs a C++ compiler")
    if "cuda" in sources and (setup_py.find_cuda() is None or torch.version.cuda is None):
        pytest.skip("needs a CUDA toolkit and a torch built for CUDA")
    done = build_in_place(tmp_path, mode, **sources)
    assert (done.returncode == 0) == bool(left_out or answer), done.stderr
    assert left_out in done.stderr
    assert ("left out" in done.stderr) == bool(left_out)
    libraries = list(tmp_path.glob("escnet_d2/layers/_C*.so"))
    assert [ctypes.CDLL(str(library)).answer() for library in libraries] == [answer] * bool(answer)


def test_the_compilers_openmp_is_used(setup_py, monkeypatch):
    if shutil.which(setup_py.compiler_command()[0]) is None:
        pytest.skip("needs a C++ compiler")
    extension = load_extension()
    if extension is not None:
        assert extension.has_openmp == bool(setup_py.openmp_options())
    monkeypatch.setenv("CXX", "no-such-compiler -O0")
    assert setup_py.openmp_options() == []
