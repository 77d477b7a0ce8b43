"""The set-up: targets of make, tested versions, and the installation of Detectron2."""

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
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("CONSTRAINTS", "TORCH_SPEC", "DETECTRON2", "ESCNET_BUILD_EXT", "FORCE_CUDA")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
    """Runs make as from a shell, free of the settings of a `make test` around it."""
    environ = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True
    )


@pytest.fixture(params=["venv", "a venv"])
def environment(request, tmp_path):
    """An environment that is set up, whose interpreter notes what it is asked to run."""
    folder = tmp_path / request.param
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> "{folder}/calls"\n'
        f'case "$*" in *" list "*) cat "{folder}/installed" 2> /dev/null;; esac\n'
    )
    python.chmod(0o755)
    (folder / "escnet-setup").touch()
    return folder


def calls(environment: Path) -> str:
    file = environment / "calls"
    return file.read_text() if file.exists() else ""


@needs_make
def test_nothing_is_run_while_nothing_is_newer(environment):
    start = time.monotonic()
    done = make("--silent", "setup", f"VENV={environment}")
    assert time.monotonic() - start < 2
    assert (done.returncode, calls(environment)) == (0, ""), done.stderr


@needs_make
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_on_the_command_line_is_heeded(environment, setting):
    done = make("--dry-run", "setup", f"VENV={environment}", f"{setting}=")
    assert "pip" in done.stdout, done.stderr


@needs_make
def test_newer_files_set_up_again(environment):
    stamp = environment / "escnet-setup"
    assert "pip" not in make("--dry-run", "setup", f"VENV={environment}").stdout
    # Another torch, for which the extension must be compiled again.
    torch = environment / "lib" / "python3.9" / "site-packages" / "torch" / "version.py"
    torch.parent.mkdir(parents=True)
    torch.touch()
    os.utime(stamp, (time.time() - 60, time.time() - 60))
    os.utime(torch, (time.time() - 30, time.time() - 30))
    assert "pip" in make("--dry-run", "setup", f"VENV={environment}").stdout
    for name in ("pyproject.toml", "setup.py", "constraints.txt", "tools/install_detectron2.py"):
        newer = ROOT / name
        os.utime(stamp, (newer.stat().st_mtime - 1,) * 2)
        os.utime(torch, (newer.stat().st_mtime - 2,) * 2)
        assert "pip" in make("--dry-run", "setup", f"VENV={environment}").stdout, name


@needs_make
def test_the_tested_versions_are_installed(environment):
    done = make("setup", f"VENV={environment}", "CONSTRAINTS=constraints.txt")
    assert done.returncode == 0, done.stderr
    assert "install -c constraints.txt torch torchvision\n" in calls(environment)
    pins = (environment / "escnet-pins.txt").read_text()
    assert "\nnumpy==" in pins
    assert f"-c {environment}/escnet-pins.txt --no-build-isolation" in calls(environment)


@needs_make
def test_a_torch_that_is_there_stays(environment):
    (environment / "installed").write_text("numpy==1.26\ntorch==2.4.0a0+git1\n")
    assert make("setup", f"VENV={environment}", "CONSTRAINTS=constraints.txt").returncode == 0
    assert "torch torchvision" not in calls(environment)
    pins = (environment / "escnet-pins.txt").read_text()
    assert re.findall("^torch.*", pins, re.M) == ["torch==2.4.0a0+git1"]

    # Asked for another one, pip decides.
    asked = "--no-index torch>=2.5 torchvision"
    assert make("setup", f"VENV={environment}", f"TORCH_SPEC={asked}").returncode == 0
    assert f"install {asked}\n" in calls(environment)
    assert not (ROOT / "=2.5").exists()


@needs_make
def test_without_constraints_pip_is_free(environment):
    assert make("setup", f"VENV={environment}", "CONSTRAINTS=").returncode == 0
    assert "install torch torchvision\n" in calls(environment)
    assert (environment / "escnet-pins.txt").read_text() == ""


@needs_make
def test_a_step_that_fails_leaves_no_stamp(environment):
    (environment / "escnet-setup").unlink()
    python = environment / "bin" / "python"
    python.write_text(python.read_text() + 'case "$*" in *doctor*) exit 1;; esac\n')
    assert make("setup", f"VENV={environment}").returncode != 0
    assert not (environment / "escnet-setup").exists()


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


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_a_tested_version_is_stated_once_for_each_python(python):
    stated = {}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for requirement in (Requirement(line) for line in lines if not line.startswith("#")):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier))
            name = requirement.name.lower()
            assert name not in stated
            stated[name] = str(requirement.specifier)[2:]
    project = (ROOT / "pyproject.toml").read_text()
    block = project.partition("dependencies = [\n")[2].partition("\n]")[0]
    wanted = [*re.findall(r'^    "(.+)",$', block, re.M), "pytest>=7.4", "ruff", "setuptools<81"]
    assert len(wanted) > 15
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(stated[requirement.name.lower()]), requirement


@pytest.fixture
def pip(installer, monkeypatch):
    """Notes pip's commands; those with the words `pip.fails` fail, a download brings a wheel."""

    def run_pip(*arguments: str) -> None:
        if run_pip.fails and any(run_pip.fails in argument for argument in arguments):
            raise subprocess.CalledProcessError(1, ["pip", *arguments])
        run_pip.calls.append(arguments)
        if arguments[0] == "download":
            folder = Path(arguments[arguments.index("--dest") + 1])
            requirement = Path(arguments[arguments.index("--requirement") + 1]).read_text()
            assert requirement.startswith("sal-detectron2==0.7.2 --hash=sha256:")
            assert "--require-hashes" in arguments
            with zipfile.ZipFile(folder / "sal_detectron2-0.7.2-cp310-any.whl", "w") as wheel:
                for name, content in WHEEL.items():
                    wheel.writestr(name, content)

    run_pip.fails, run_pip.calls = "", []
    monkeypatch.setattr(installer, "run_pip", run_pip)
    monkeypatch.setattr(installer, "check_connection", lambda repository: None)
    # The real one is installed here.
    monkeypatch.setattr(installer.importlib.util, "find_spec", lambda name: None)
    return run_pip


WHEEL = {
    "detectron2/__init__.py": "VALUE = 42\n",
    "detectron2/model_zoo/__init__.py": "",
    "detectron2/model_zoo/configs/LVISv0.5/a.yaml": "A: 1\n",
    "detectron2/_C.cpython-310-x86_64-linux-gnu.so": "ELF",
    "tools/__init__.py": "",
    "sal_detectron2-0.7.2.dist-info/LICENSE": "Apache\n",
    "sal_detectron2-0.7.2.dist-info/METADATA": "Requires-Dist: numpy<2\n",
}
REPOSITORY = "git+https://github.com/facebookresearch/detectron2.git"


def test_detectron2_comes_from_its_repository_first(installer, pip):
    assert installer.main(["-c", "pins.txt"]) == 0
    assert pip.calls == [("install", "--no-build-isolation", "-c", "pins.txt", REPOSITORY)]


@pytest.mark.parametrize("reason", ["connection", "git", "build"])
def test_the_snapshot_is_used_where_the_repository_does_not_work(
    installer, pip, monkeypatch, reason
):
    def check_connection(repository):
        if reason == "connection":
            raise subprocess.TimeoutExpired(["git", "ls-remote"], 15)
        if reason == "git":
            raise FileNotFoundError("git")

    monkeypatch.setattr(installer, "check_connection", check_connection)
    pip.fails = "git+https"
    assert installer.main([]) == 0
    assert [call[0] for call in pip.calls] == ["download", "install"]


def test_a_chosen_source_is_the_only_one(installer, pip, monkeypatch, capsys):
    pip.fails = "git+https"
    assert installer.main(["--source", "git"]) == 1
    assert "Detectron2 can't be installed" in capsys.readouterr().err
    assert not pip.calls

    monkeypatch.setenv("DETECTRON2", "/my/detectron2")
    assert installer.main([]) == 0
    assert pip.calls == [("install", "--no-build-isolation", "/my/detectron2")]


def test_an_installed_detectron2_stays(installer, pip, monkeypatch):
    monkeypatch.setattr(installer.importlib.util, "find_spec", lambda name: object())
    assert installer.main(["--source", "pypi"]) == 0
    assert not pip.calls


@pytest.mark.slow
def test_pip_installs_the_python_files_of_the_snapshot(installer, pip, tmp_path):
    source = Path(installer.prepare_snapshot(tmp_path))
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(site), str(source)]
    subprocess.run(command, check=True)
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    kept = {name for name in WHEEL if name.endswith((".py", ".yaml")) and name[0] == "d"}
    assert {name for name in files if "dist-info" not in name and ".pyc" not in name} == kept
    assert "sal_detectron2-0.7.2.dist-info/METADATA" in files
    metadata = (site / "sal_detectron2-0.7.2.dist-info/METADATA").read_text()
    assert "Requires-Dist: numpy\n" in metadata


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_silent_server_is_given_up_soon(installer, monkeypatch):
    monkeypatch.setattr(installer, "CONNECTION_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"git://127.0.0.1:{server.getsockname()[1]}/detectron2.git"
        start = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            installer.check_connection(address)
        assert time.monotonic() - start < 10
