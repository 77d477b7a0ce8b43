"""Installs Detectron2 into the environment of the running interpreter; ``make setup`` runs it.

Detectron2 is not in the package index under its own name. Its repository is tried first and then,
where git, the connection or a compiler is missing, a snapshot in the index. The only wheel of that
snapshot is for CPython 3.10, because of a compiled module that semantic segmentation doesn't use;
its Python files are packaged again here, for any version. An installed Detectron2 stays.

Standard library only, as this runs before the project's requirements are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = "https://github.com/facebookresearch/detectron2.git"
CONNECTION_SECONDS = 15

# Of Detectron2's main branch of late 2024.
SNAPSHOT = "sal-detectron2==0.7.2"
SNAPSHOT_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
# The wheel also asks for numpy<2 and black, which it doesn't need, and has a stray package `tools`.
SNAPSHOT_PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "sal-detectron2"
version = "0.7.2"
description = "Detectron2's main branch of late 2024, without its compiled module"
dependencies = [
    "Pillow>=7.1", "cloudpickle", "fvcore>=0.1.5", "hydra-core>=1.1", "iopath>=0.1.7",
    "matplotlib", "numpy", "omegaconf>=2.1,<2.4", "opencv-python-headless", "packaging",
    "pycocotools>=2.0.2", "pydot", "scipy", "setuptools<81", "tabulate", "tensorboard",
    "termcolor>=1.1", "tqdm>4.29.0", "yacs>=0.1.8",
]

[tool.setuptools.packages.find]
include = ["detectron2*"]

[tool.setuptools.package-data]
"*" = ["**/*"]
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs Detectron2 unless it is there; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="All other options go to pip install."
    )
    parser.add_argument(
        "--source",
        default=os.environ.get("DETECTRON2") or "auto",
        help="auto (repository, then snapshot), git, pypi (snapshot) or a requirement for pip; "
        "default: $DETECTRON2 or auto",
    )
    options, pip_options = parser.parse_known_args(arguments)
    if importlib.util.find_spec("detectron2") is not None:
        return 0
    try:
        install(options.source, *pip_options)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"Detectron2 can't be installed: {error}", file=sys.stderr)
        return 1
    return 0


def install(source: str, *pip_options: str) -> None:
    """Installs Detectron2.

    Args:
        source: ``auto``, ``git``, ``pypi`` or a requirement for pip.
        pip_options: of ``pip install``.

    Raises:
        subprocess.CalledProcessError: a command failed; pip has printed the reason.
        subprocess.TimeoutExpired: the repository did not answer.
        OSError: a command could not be started.
    """
    if source in ("auto", "git"):
        try:
            if source == "auto":
                check_connection(REPOSITORY)
            # Detectron2's setup.py imports torch, which an isolated build doesn't have.
            run_pip("install", "--no-build-isolation", *pip_options, f"git+{REPOSITORY}")
            return
        except (OSError, subprocess.SubprocessError) as error:
            if source == "git":
                raise
            print(f"Without its repository, Detectron2 is {SNAPSHOT}: {error}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if source in ("auto", "pypi"):
            source = prepare_snapshot(Path(folder))
        run_pip("install", "--no-build-isolation", *pip_options, source)


def check_connection(repository: str) -> None:
    """Asks a git server for its head, and waits for :data:`CONNECTION_SECONDS` at most."""
    subprocess.run(
        ["git", "ls-remote", "--exit-code", repository, "HEAD"],
        check=True,
        env=patient_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=CONNECTION_SECONDS,
    )


def prepare_snapshot(folder: Path) -> str:
    """Downloads the snapshot, checked by its SHA-256, and unpacks what is wanted of it.

    Args:
        folder: an empty folder.

    Returns:
        A folder that pip can install.
    """
    requirement = folder / "snapshot.txt"
    requirement.write_text(f"{SNAPSHOT} --hash=sha256:{SNAPSHOT_SHA256}\n")
    run_pip(
        *("download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"),
        *("--python-version", "3.10", "--platform", "any"),
        *("--dest", str(folder), "--requirement", str(requirement)),
    )
    (wheel,) = folder.glob("*.whl")
    source = folder / "source"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("detectron2/") and not name.endswith(".so"):
                archive.extract(name, source)
            elif name.endswith(".dist-info/LICENSE"):
                (source / "LICENSE").write_bytes(archive.read(name))
    (source / "pyproject.toml").write_text(SNAPSHOT_PYPROJECT)
    return str(source)


def run_pip(*arguments: str) -> None:
    """Runs pip of this environment, its output going to ours."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*command, *arguments], check=True, env=patient_environment())


def patient_environment() -> dict[str, str]:
    """Environment in which git asks for no password and gives up on a transfer that stalls."""
    limit = {"GIT_HTTP_LOW_SPEED_LIMIT": "1000", "GIT_HTTP_LOW_SPEED_TIME": str(CONNECTION_SECONDS)}
    return {**os.environ, "GIT_TERMINAL_PROMPT": "0", **limit}


if __name__ == "__main__":
    sys.exit(main())
