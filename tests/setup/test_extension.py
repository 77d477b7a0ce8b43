"""The optional compiled extension."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_modes_of_the_extension_without_sources(setup_py, tmp_path, monkeypatch):
    monkeypatch.setattr(setup_py, "CSRC", tmp_path / "csrc")
    assert setup_py.extension_options("0") == {}
    assert setup_py.extension_options("auto") == {}
    with pytest.raises(RuntimeError, match="no sources in .*csrc"):
        setup_py.extension_options("1")


@pytest.mark.parametrize(
    ("value", "mode"), [("", "auto"), ("AUTO", "auto"), ("0", "0"), ("1", "1")]
)
def test_build_modes(setup_py, monkeypatch, value, mode):
    monkeypatch.setenv("ESCNET_BUILD_EXT", value)
    assert setup_py.build_mode() == mode


def test_an_unknown_build_mode_is_an_error(setup_py, monkeypatch):
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


WORKING_SOURCE = """\
#include <torch/library.h>
#ifdef WITH_CUDA
int64_t answer() { return 0; }
#else
int64_t answer() { return 42; }
#endif
TORCH_LIBRARY(escnet_d2_probe, m) { m.def("answer() -> int", &answer); }
"""


def build_in_place(
    folder: Path, source: str, mode: str, cuda_source: str | None = None
) -> subprocess.CompletedProcess:
    """Builds a toy package with this project's setup.py and one or two sources."""
    shutil.copy(ROOT / "setup.py", folder / "setup.py")
    (folder / "configs").mkdir()
    csrc = folder / "escnet_d2" / "layers" / "csrc" / "cpu"
    csrc.mkdir(parents=True)
    (folder / "escnet_d2" / "__init__.py").touch()
    (folder / "escnet_d2" / "layers" / "__init__.py").touch()
    (csrc / "probe.cpp").write_text(source)
    if cuda_source is not None:
        cuda = csrc.with_name("cuda")
        cuda.mkdir()
        (cuda / "probe_kernel.cu").write_text(cuda_source)
    # One architecture, which needs no GPU to be found.
    settings = {"ESCNET_BUILD_EXT": mode, "MAX_JOBS": "1", "TORCH_CUDA_ARCH_LIST": "8.0"}
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def compiler(setup_py):
    if not setup_py.has_compiler():
        pytest.skip("needs a C++ compiler")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "1"])
def test_a_build_that_fails(tmp_path, compiler, mode):
    done = build_in_place(tmp_path, "#error this can't be compiled\n", mode)
    assert (done.returncode == 0) == (mode == "auto"), done.stderr
    assert ("compiled extension left out" in done.stderr) == (mode == "auto")
    assert not list(tmp_path.rglob("_C*.so"))


def answer_of(folder: Path) -> str:
    """Loads the library that a build left and calls it."""
    (library,) = folder.glob("escnet_d2/layers/_C*.so")
    program = (
        "import sys, torch\n"
        "torch.ops.load_library(sys.argv[1])\n"
        "print(torch.ops.escnet_d2_probe.answer())"
    )
    command = [sys.executable, "-c", program, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_a_build_that_works(tmp_path, compiler):
    done = build_in_place(tmp_path, WORKING_SOURCE, "1")
    assert done.returncode == 0, done.stderr
    assert answer_of(tmp_path) == "42"


@pytest.mark.slow
def test_cuda_that_fails_leaves_the_rest(tmp_path, compiler):
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    if CUDA_HOME is None or torch.version.cuda is None:
        pytest.skip("needs a CUDA toolkit and a torch built for CUDA")
    done = build_in_place(tmp_path, WORKING_SOURCE, "auto", cuda_source="#error no kernel")
    assert done.returncode == 0, done.stderr
    assert "CUDA left out of the extension" in done.stderr
    assert answer_of(tmp_path) == "42"
