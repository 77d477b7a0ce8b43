"""The installation of Detectron2, with a pip that only notes what it is asked for."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest


@pytest.fixture
def installer(load_program):
    return load_program("tools/install_detectron2.py")


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
