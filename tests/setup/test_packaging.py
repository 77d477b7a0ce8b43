"""Version, wheel and metadata of this package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from escnet_d2.version import __version__

ROOT = Path(__file__).resolve().parents[2]


def test_the_version_is_stated_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", __version__)
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert 'version = { attr = "escnet_d2.version.__version__" }' in pyproject
    assert 'dynamic = ["version"]' in pyproject
    # A citation file can only repeat it.
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def copy_of_checkout(folder: Path) -> Path:
    """Copies the files that a build needs, without results of builds."""
    clone = folder / "clone"
    clone.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone / name)
    for name in ("escnet_d2", "configs", "projects", "tests", "tools"):
        no_builds = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, clone / name, ignore=no_builds)
    return clone


@pytest.fixture(scope="module")
def built_wheel(tmp_path_factory):
    """The wheel of this checkout, built without network from a copy."""
    folder = tmp_path_factory.mktemp("wheel")
    clone = copy_of_checkout(folder)
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
    assert built_wheel.name == f"escnet_d2-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(built_wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    suffixes = (".py", ".csv", ".json", ".safetensors", ".txt", "py.typed")
    files = (path for path in ROOT.glob("escnet_d2/**/*") if path.name.endswith(suffixes))
    wanted = {path.relative_to(ROOT) for path in files}
    wanted |= {
        Path("escnet_d2") / path.relative_to(ROOT) for path in ROOT.glob("configs/**/*.yaml")
    }
    project = ROOT / "projects/shapes"
    wanted |= {
        Path("escnet_d2/projects") / path.relative_to(project)
        for path in project.glob("shapes/**/*.py")
    }
    assert packed == {path.as_posix() for path in wanted}
    assert "escnet_d2/py.typed" in packed


@pytest.mark.slow
def test_the_source_archive_can_build_the_extension(tmp_path):
    clone = copy_of_checkout(tmp_path)
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "sdist"],
        cwd=clone,
        # As in an environment without torch: no extension tells which files it needs.
        env={**os.environ, "ESCNET_BUILD_EXT": "0"},
        check=True,
    )
    (archive,) = (clone / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.split("/", 1)[-1] for name in packed.getnames()}
    csrc = ROOT / "escnet_d2" / "layers" / "csrc"
    wanted = {path.relative_to(ROOT).as_posix() for path in csrc.rglob("*") if path.is_file()}
    assert wanted
    assert wanted <= names
    assert {"setup.py", "escnet_d2/layers/masked_kmeans.py"} <= names


@pytest.mark.slow
def test_the_metadata_of_the_wheel(built_wheel):
    with zipfile.ZipFile(built_wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    assert metadata["Name"] == "escnet-d2"
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.9"
    assert set(metadata.get_all("Provides-Extra")) == {
        *("bench", "datasets", "dev", "export", "mess", "supervision", "video", "web"),
    }
    requirements = {
        re.match(r"[A-Za-z0-9_.-]+", text).group().lower(): text
        for text in metadata.get_all("Requires-Dist")
    }
    # PyPI has no Detectron2 under that name, and a pin of torch would replace the user's build.
    assert "detectron2" not in requirements
    assert requirements["torch"] == "torch>=2.2"
