"""The set-up: re-tagged wheels, the installer, the wheel of this package, the extension."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = ROOT / "escnet_d2" / "version.py"


def load(path: Path, monkeypatch):
    """Imports a file that belongs to no package."""
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pure_wheel(monkeypatch):
    return load(ROOT / "tools" / "pure_wheel.py", monkeypatch)


@pytest.fixture
def setup_env(monkeypatch):
    return load(ROOT / "tools" / "setup_env.py", monkeypatch)


@pytest.fixture
def setup_py(monkeypatch):
    monkeypatch.chdir(ROOT)
    return load(ROOT / "setup.py", monkeypatch)


# --- re-tagging --------------------------------------------------------------------------------

METADATA = """\
Metadata-Version: 2.1
Name: fake-pack
Version: 0.7.2
Summary: A pack with an unusually long summary line that must come out of the rewriting in one piece
Requires-Python: >=3.8
Requires-Dist: numpy<2
Requires-Dist: black
Provides-Extra: dev
Requires-Dist: isort==5.12.0; extra == "dev"

Requires-Dist: is only text here, in the description.
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: setuptools (75.6.0)
Root-Is-Purelib: false
Tag: cp310-cp310-linux_x86_64
"""


def write_fake_wheel(folder: Path, **changes: str) -> Path:
    files = {
        "fake_pack/__init__.py": "VALUE = 42\n",
        "fake_pack/_C.cpython-310-x86_64-linux-gnu.so": "ELF",
        "fake_pack/tools/kept.py": "",
        "fake_pack/configs/a.yaml": "A: 1\n",
        "tools/__init__.py": "",
        "tools/train_net.py": "",
        "fake_pack-0.7.2.dist-info/METADATA": METADATA,
        "fake_pack-0.7.2.dist-info/WHEEL": WHEEL,
        "fake_pack-0.7.2.dist-info/top_level.txt": "fake_pack\ntools\n",
        "fake_pack-0.7.2.dist-info/LICENSE": "Apache\n",
        "fake_pack-0.7.2.dist-info/RECORD": "stale,,\n",
        "fake_pack-0.7.2.dist-info/RECORD.jws": "signature",
        **changes,
    }
    wheel = folder / "fake_pack-0.7.2-cp310-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            if content is not None:
                archive.writestr(name, content)
    return wheel


def retag(pure_wheel, wheel: Path, target: Path) -> Path:
    target.mkdir()
    return pure_wheel.make_pure_wheel(
        wheel, target, requirements=("numpy", "setuptools<81"), drop_packages=("tools",)
    )


def test_retagged_wheel_has_the_python_files_only(tmp_path, pure_wheel):
    target = retag(pure_wheel, write_fake_wheel(tmp_path), tmp_path / "out")
    assert target == tmp_path / "out" / "fake_pack-0.7.2-py3-none-any.whl"
    info = "fake_pack-0.7.2.dist-info"
    with zipfile.ZipFile(target) as archive:
        assert sorted(archive.namelist()) == sorted(
            [
                "fake_pack/__init__.py",
                "fake_pack/tools/kept.py",
                "fake_pack/configs/a.yaml",
                *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "LICENSE", "RECORD")),
                f"{info}/top_level.txt",
            ]
        )
        assert archive.read(f"{info}/top_level.txt") == b"fake_pack\n"


def test_retagged_wheel_states_its_tags_and_requirements(tmp_path, pure_wheel):
    target = retag(pure_wheel, write_fake_wheel(tmp_path), tmp_path / "out")
    with zipfile.ZipFile(target) as archive:
        wheel = message_from_bytes(archive.read("fake_pack-0.7.2.dist-info/WHEEL"))
        metadata = message_from_bytes(archive.read("fake_pack-0.7.2.dist-info/METADATA"))
    assert wheel.get_all("Tag") == ["py3-none-any"]
    assert wheel.get_all("Root-Is-Purelib") == ["true"]
    assert wheel["Wheel-Version"] == "1.0"
    assert metadata.get_all("Requires-Dist") == ["numpy", "setuptools<81"]
    assert metadata.get_all("Provides-Extra") is None
    assert metadata["Summary"].endswith("in one piece")
    assert "\n" not in metadata["Summary"]
    assert metadata["Requires-Python"] == ">=3.8"
    assert metadata.get_payload() == "Requires-Dist: is only text here, in the description.\n"


def test_record_of_a_retagged_wheel_holds(tmp_path, pure_wheel):
    target = retag(pure_wheel, write_fake_wheel(tmp_path), tmp_path / "out")
    with zipfile.ZipFile(target) as archive:
        record = archive.read("fake_pack-0.7.2.dist-info/RECORD").decode()
        rows = [line.split(",") for line in record.splitlines()]
        assert sorted(name for name, _, _ in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            if name.endswith("/RECORD"):
                assert (digest, size) == ("", "")
                continue
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            assert digest == f"sha256={expected.rstrip('=')}"
            assert int(size) == len(content)


def test_pip_installs_a_retagged_wheel(tmp_path, pure_wheel):
    target = retag(pure_wheel, write_fake_wheel(tmp_path), tmp_path / "out")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(target)], check=True)
    assert (site / "fake_pack" / "__init__.py").read_text() == "VALUE = 42\n"
    assert not (site / "tools").exists()


def test_what_is_no_wheel_is_refused_by_name(tmp_path, pure_wheel):
    text = tmp_path / "page.whl"
    text.write_text("<html>")
    with pytest.raises(ValueError, match="page.whl is not a wheel"):
        pure_wheel.make_pure_wheel(text, tmp_path, requirements=())
    two = write_fake_wheel(tmp_path, **{"other-1.0.dist-info/METADATA": ""})
    with pytest.raises(ValueError, match="one .dist-info folder"):
        pure_wheel.make_pure_wheel(two, tmp_path, requirements=())
    bare = write_fake_wheel(tmp_path, **{"fake_pack-0.7.2.dist-info/WHEEL": None})
    with pytest.raises(ValueError, match="has no fake_pack-0.7.2.dist-info/WHEEL"):
        pure_wheel.make_pure_wheel(bare, tmp_path, requirements=())


# --- the installer -----------------------------------------------------------------------------


class FakePip:
    """Stands for pip; `fails` names the words of a command that doesn't work."""

    def __init__(self, setup_env, *, fails: str = "", **versions: str) -> None:
        self.setup_env, self.fails, self.versions = setup_env, fails, versions
        self.installed, self.downloaded, self.pinned = [], [], 0

    def probe(self):
        return {"versions": self.versions, "detectron2": False}

    def update_constraints(self):
        self.pinned += 1

    def install(self, what, *arguments, quiet=True):
        if self.fails and any(self.fails in argument for argument in arguments):
            raise self.setup_env.SetupError(f"install {what}: exit code 1")
        self.installed.append(arguments)

    def download(self, *arguments):
        self.downloaded.append(arguments)
        write_fake_wheel(Path(arguments[arguments.index("--dest") + 1]))


@pytest.fixture
def network(setup_env, monkeypatch):
    """Whether Detectron2's repository answers; the fake download passes for the snapshot."""
    state = {"up": True}

    def check_reachable(repository):
        if not state["up"]:
            raise setup_env.SetupError(f"reach {repository}: no answer in 15 s")

    monkeypatch.setattr(setup_env, "check_reachable", check_reachable)
    monkeypatch.setattr(setup_env, "_sha256", lambda path: setup_env.SNAPSHOT_SHA256)
    return state


def installed_snapshot(pip: FakePip) -> bool:
    return any(words[-1].endswith("-py3-none-any.whl") for words in pip.installed)


def test_detectron2_comes_from_its_repository_first(setup_env, network, tmp_path):
    pip = FakePip(setup_env)
    setup_env.install_detectron2(pip, "auto", tmp_path)
    address = "git+https://github.com/facebookresearch/detectron2.git"
    assert pip.installed == [("--no-build-isolation", address)]
    assert not pip.downloaded


@pytest.mark.parametrize("up", [False, True])
def test_the_snapshot_serves_where_the_repository_does_not(setup_env, network, tmp_path, up):
    # Not reachable, or reachable and its build fails.
    network["up"] = up
    pip = FakePip(setup_env, fails="git+https")
    setup_env.install_detectron2(pip, "auto", tmp_path)
    assert installed_snapshot(pip)
    assert "sal-detectron2==0.7.2" in pip.downloaded[0]


def test_a_chosen_source_of_detectron2_is_the_only_one(setup_env, network, tmp_path):
    pip = FakePip(setup_env, fails="git+https")
    with pytest.raises(setup_env.SetupError):
        setup_env.install_detectron2(pip, "git", tmp_path)
    assert not pip.downloaded

    pip = FakePip(setup_env)
    setup_env.install_detectron2(pip, "/my/detectron2", tmp_path)
    assert pip.installed == [("--no-build-isolation", "/my/detectron2")]

    pip = FakePip(setup_env)
    setup_env.install_detectron2(pip, "pypi", tmp_path)
    assert installed_snapshot(pip)


def test_an_altered_snapshot_is_refused(setup_env, tmp_path):
    pip = FakePip(setup_env)
    with pytest.raises(setup_env.SetupError, match="SHA-256"):
        setup_env.install_snapshot(pip, tmp_path)
    assert not pip.installed


def test_torch_that_is_there_stays(setup_env):
    pip = FakePip(setup_env, torch="2.4.0a0+git1", torchvision="0.19.0")
    setup_env.install_torch(pip, ["torch", "torchvision"])
    assert not pip.installed

    pip = FakePip(setup_env, torch="2.10.0")
    setup_env.install_torch(pip, ["torch==2.11", "torchvision"])
    assert pip.installed == [("torchvision",)]
    assert pip.pinned == 1

    pip = FakePip(setup_env)
    setup_env.install_torch(pip, ["torch==2.11", "torchvision"])
    assert pip.installed == [("torch==2.11", "torchvision")]
    assert pip.pinned == 1


def test_later_installs_keep_torch_and_a_numpy_that_fits(setup_env):
    assert setup_env.constraints({}) == ["setuptools<81\n"]
    pins = ["setuptools<81\n", "torch==2.14.1+cpu\n", "torchvision==0.29.1\n"]
    versions = {"torch": "2.14.1+cpu", "torchvision": "0.29.1"}
    assert setup_env.constraints(versions) == pins
    # opencv brings NumPy 2, which torch can't use before 2.3.
    assert "numpy<2\n" in setup_env.constraints({"torch": "2.2.2", "torchvision": "0.17.2"})


def test_torch_that_is_too_old_is_left_to_the_user(setup_env):
    pip = FakePip(setup_env, torch="2.1.2+cu118", torchvision="0.16.2")
    with pytest.raises(setup_env.SetupError, match=r"torch 2\.1\.2\+cu118 .* 2\.2 or newer"):
        setup_env.install_torch(pip, ["torch", "torchvision"])


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_silent_server_is_given_up_soon(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env, "CONNECTION_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"git://127.0.0.1:{server.getsockname()[1]}/detectron2.git"
        start = time.monotonic()
        with pytest.raises(setup_env.SetupError, match="no answer in 1 s"):
            setup_env.check_reachable(address)
        assert time.monotonic() - start < 10


def test_without_git_the_repository_counts_as_unreachable(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.shutil, "which", lambda name: None)
    with pytest.raises(setup_env.SetupError, match="git is not installed"):
        setup_env.check_reachable("https://example.invalid/x.git")


def copy_of_build_files(target: Path) -> Path:
    for name in ("setup.py", "pyproject.toml", "tools/setup_env.py", "tools/pure_wheel.py"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return target


def test_the_stamp_follows_everything_that_matters(setup_env, tmp_path):
    root = copy_of_build_files(tmp_path / "clone")
    seen = {setup_env.fingerprint(root, {})}
    assert setup_env.fingerprint(root, {"HOME": "/elsewhere", "TORCH_SPEC": ""}) in seen

    for settings in ({"TORCH_SPEC": "torch==2.4"}, {"DETECTRON2": "pypi"}, {"FORCE_CUDA": "1"}):
        seen.add(setup_env.fingerprint(root, settings))
    seen.add(setup_env.fingerprint(root, {"ESCNET_BUILD_EXT": "0"}))
    assert len(seen) == 5

    for name in ("setup.py", "pyproject.toml", "tools/setup_env.py", "tools/pure_wheel.py"):
        with open(root / name, "a") as stream:
            stream.write("# changed\n")
        seen.add(setup_env.fingerprint(root, {}))
    source = root / "escnet_d2/layers/csrc/cpu/kernel.cpp"
    source.parent.mkdir(parents=True)
    source.write_text("int f();")
    seen.add(setup_env.fingerprint(root, {}))
    seen.add(setup_env.fingerprint(copy_of_build_files(tmp_path / "other"), {}))
    assert len(seen) == 11


def test_nothing_is_run_while_the_stamp_holds(setup_env, tmp_path, monkeypatch):
    commands = []

    def run(command, purpose, **options):
        commands.append(purpose)
        raise setup_env.SetupError(purpose)

    monkeypatch.setattr(setup_env, "run", run)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    stamp = tmp_path / setup_env.STAMP_NAME
    stamp.write_text(setup_env.fingerprint(ROOT, {}) + "\n")
    setup_env.set_up(tmp_path, {})
    assert not commands

    # Another setting starts the work, and what failed half-way never counts as done.
    with pytest.raises(setup_env.SetupError):
        setup_env.set_up(tmp_path, {"TORCH_SPEC": "torch==2.4 torchvision"})
    assert commands
    assert not stamp.exists()


def test_installer_and_metadata_state_the_same_lower_bounds(setup_env):
    text = (ROOT / "pyproject.toml").read_text()
    oldest = ".".join(map(str, setup_env.OLDEST_TORCH))
    assert f'"torch>={oldest}"' in text
    assert f"torch>={oldest}" in setup_env.DEFAULT_TORCH_SPEC
    assert 'requires-python = ">=3.9"' in text


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str) -> subprocess.CompletedProcess:
    """Runs make as from a shell, free of the settings of a `make test` around it."""
    environ = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True
    )


@needs_make
def test_make_setup_is_quick_when_nothing_changed(setup_env, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / setup_env.STAMP_NAME).write_text(setup_env.fingerprint(ROOT, {}))
    start = time.monotonic()
    done = make("setup", f"VENV={tmp_path}", f"PYTHON={sys.executable}")
    assert time.monotonic() - start < 2
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@needs_make
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


@needs_make
def test_make_alone_lists_every_target():
    done = make()
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1)
    assert [line.split()[0] for line in done.stdout.splitlines()] == phony.split()


# --- the package -------------------------------------------------------------------------------


def stated_version() -> str:
    (assignment,) = [
        n for n in ast.parse(VERSION_FILE.read_text()).body if isinstance(n, ast.Assign)
    ]
    return ast.literal_eval(assignment.value)


def test_the_version_is_stated_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", stated_version())
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert 'version = { attr = "escnet_d2.version.__version__" }' in pyproject
    assert 'dynamic = ["version"]' in pyproject
    # A citation file can only repeat it.
    assert f"\nversion: {stated_version()}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.fixture(scope="module")
def built_wheel(tmp_path_factory):
    """The wheel of this checkout, built without network from a copy."""
    folder = tmp_path_factory.mktemp("wheel")
    clone = folder / "clone"
    clone.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone / name)
    for name in ("escnet_d2", "configs", "tests", "tools"):
        no_builds = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, clone / name, ignore=no_builds)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(folder), str(clone)],
        env={**os.environ, "ESCNET_BUILD_EXT": "0"},
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(built_wheel):
    assert built_wheel.name == f"escnet_d2-{stated_version()}-py3-none-any.whl"
    with zipfile.ZipFile(built_wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = set()
    for suffix in (".py", ".json", ".txt", "py.typed"):
        wanted |= {path.relative_to(ROOT) for path in ROOT.glob(f"escnet_d2/**/*{suffix}")}
    wanted |= {
        Path("escnet_d2") / path.relative_to(ROOT) for path in ROOT.glob("configs/**/*.yaml")
    }
    assert packed == {path.as_posix() for path in wanted}
    assert "escnet_d2/py.typed" in packed


@pytest.mark.slow
def test_the_metadata_of_the_wheel(built_wheel):
    with zipfile.ZipFile(built_wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    assert metadata["Name"] == "escnet-d2"
    assert metadata["Version"] == stated_version()
    assert metadata["Requires-Python"] == ">=3.9"
    assert set(metadata.get_all("Provides-Extra")) == {"demo", "dev"}
    requirements = {
        re.match(r"[A-Za-z0-9_.-]+", text).group().lower(): text
        for text in metadata.get_all("Requires-Dist")
    }
    # PyPI has no Detectron2 under that name, and a pin of torch would replace the user's build.
    assert "detectron2" not in requirements
    assert requirements["torch"] == "torch>=2.2"


# --- the optional extension --------------------------------------------------------------------


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
