"""The installer and the targets of make."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from escnet_d2.doctor import REQUIREMENTS

ROOT = Path(__file__).resolve().parents[2]


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
        folder = Path(arguments[arguments.index("--dest") + 1])
        info = "fake_pack-0.7.2.dist-info"
        with zipfile.ZipFile(folder / "fake_pack-0.7.2-cp310-none-any.whl", "w") as wheel:
            wheel.writestr("fake_pack/__init__.py", "")
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fake-pack\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: cp310-cp310-linux_x86_64\n")


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
    for requirement in REQUIREMENTS:
        if requirement.oldest and requirement.distribution != "detectron2":
            oldest = ".".join(map(str, requirement.oldest))
            assert f'"{requirement.distribution}>={oldest}"' in text


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
