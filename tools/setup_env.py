"""Makes the virtual environment of this project; ``make setup`` runs it, INSTALL.md explains it.

Steps: the environment, torch, Detectron2, this package. What is installed already stays, and when
nothing changed since the last success the whole run only compares one hash. Standard library only,
since this runs before anything is installed.

Environment variables: ``TORCH_SPEC`` (what pip is asked for when torch is missing),
``DETECTRON2`` (``auto``, ``git``, ``pypi`` or any requirement pip understands); setup.py reads
``ESCNET_BUILD_EXT``, ``FORCE_CUDA``, ``CUDA_HOME`` and ``TORCH_CUDA_ARCH_LIST``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pure_wheel import make_pure_wheel

ROOT = Path(__file__).resolve().parents[1]
STAMP_NAME = "escnet-setup.sha256"

DEFAULT_TORCH_SPEC = "torch>=2.2 torchvision"
OLDEST_TORCH = (2, 2)
# Older ones fail with NumPy 2, which opencv would bring.
OLDEST_TORCH_FOR_NUMPY_2 = (2, 3)
# Detectron2's model_zoo imports pkg_resources, which setuptools 81 took out; torch asks for 77.0.3.
BUILD_TOOLS = ("pip>=21.3", "setuptools>=77.0.3,<81", "wheel")

DETECTRON2_GIT = "https://github.com/facebookresearch/detectron2.git"
CONNECTION_SECONDS = 15
# A snapshot of Detectron2's main branch of late 2024. Its wheel is for CPython 3.10 alone, on
# account of a compiled module that semantic segmentation doesn't use; it brings a stray top-level
# package called `tools`, and asks for numpy<2 and black without needing them.
SNAPSHOT = "sal-detectron2==0.7.2"
SNAPSHOT_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
SNAPSHOT_REQUIREMENTS = (
    "Pillow>=7.1",
    "cloudpickle",
    "fvcore>=0.1.5",
    "hydra-core>=1.1",
    "iopath>=0.1.7",
    "matplotlib",
    "numpy",
    "omegaconf>=2.1,<2.4",
    "opencv-python-headless",
    "packaging",
    "pycocotools>=2.0.2",
    "pydot",
    "scipy",
    "setuptools<81",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)

# Printed by the environment's own interpreter: versions without importing anything heavy.
PROBE = """
import importlib.metadata as metadata, importlib.util, json
versions = {}
for name in ("torch", "torchvision"):
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
found = importlib.util.find_spec("detectron2") is not None
print(json.dumps({"versions": versions, "detectron2": found}))
"""
WORKING_CHECK = """
import torch, torchvision, detectron2, open_clip, segment_anything, escnet_d2
torch.zeros(1).numpy()
"""


class SetupError(RuntimeError):
    """A step failed; the message says which and what to do about it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the steps that are needed; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--venv", type=Path, default=ROOT / ".venv", help="environment to make or use"
    )
    parser.add_argument(
        "--force", action="store_true", help="run every step even if nothing changed"
    )
    options = parser.parse_args(arguments)
    try:
        set_up(options.venv.expanduser().absolute(), os.environ, force=options.force)
    except SetupError as error:
        print(f"setup failed: {error}", file=sys.stderr)
        return 1
    return 0


def set_up(venv: Path, environ: Mapping[str, str], *, force: bool = False) -> None:
    """Brings an environment up to date.

    Args:
        venv: folder of the environment; made where there is none.
        environ: where the settings are read from; empty values count as unset.
        force: don't trust the record of the last success.

    Raises:
        SetupError: a step failed.
    """
    python = venv / "bin" / "python"
    stamp = venv / STAMP_NAME
    torch_spec = environ.get("TORCH_SPEC") or DEFAULT_TORCH_SPEC
    detectron2 = environ.get("DETECTRON2") or "auto"
    wanted = fingerprint(ROOT, environ, torch_in(venv))
    if not force and python.exists() and stamp.exists() and stamp.read_text().strip() == wanted:
        return
    if not python.exists():
        make_venv(venv)
    stamp.unlink(missing_ok=True)
    ensure_pip(python)
    with tempfile.TemporaryDirectory(prefix="escnet-setup-") as scratch:
        pip = Pip(python, Path(scratch) / "constraints.txt")
        pip.install("build tools", *BUILD_TOOLS)
        install_torch(pip, shlex.split(torch_spec))
        if not pip.probe()["detectron2"]:
            install_detectron2(pip, detectron2, Path(scratch))
        # No build isolation: the build must see the installed torch, for the optional extension.
        pip.install("escnet_d2", "--no-build-isolation", "--editable", f"{ROOT}[demo,dev]")
    run([python, "-W", "ignore", "-c", WORKING_CHECK], "check that everything works together")
    # Once more: torch may be new.
    stamp.write_text(f"{fingerprint(ROOT, environ, torch_in(venv))}\n")
    print(f"ready: {python}")


def torch_in(venv: Path) -> str:
    """Name and version of the torch in an environment, "" for none; starts no interpreter."""
    folders = venv.glob("lib/python*/site-packages/torch-*.dist-info")
    return " ".join(sorted(folder.stem for folder in folders))


def fingerprint(root: Path, environ: Mapping[str, str], torch: str = "") -> str:
    """SHA-256 of what decides the content of an environment: build files, csrc, settings, torch.

    Args:
        root: of the repository.
        environ: where the settings are read from.
        torch: what :func:`torch_in` found; the extension is compiled for it.
    """
    names = ("setup.py", "pyproject.toml", "tools/setup_env.py", "tools/pure_wheel.py")
    files = [root / name for name in names]
    files += sorted(path for path in (root / "escnet_d2/layers/csrc").rglob("*") if path.is_file())
    settings = ("TORCH_SPEC", "DETECTRON2", "ESCNET_BUILD_EXT", "FORCE_CUDA")
    settings += ("CUDA_HOME", "TORCH_CUDA_ARCH_LIST")
    content = {
        "root": str(root),
        "files": {str(path.relative_to(root)): _sha256(path) for path in files},
        "settings": {name: environ.get(name, "") for name in settings},
        "torch": torch,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(command: Sequence[object], purpose: str, **options: object) -> subprocess.CompletedProcess:
    """Runs a command, its output going to ours.

    Raises:
        SetupError: it could not be started, failed or took longer than ``timeout`` in `options`.
    """
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, check=True, text=True, stdin=subprocess.DEVNULL, **options)
    except subprocess.CalledProcessError as error:
        reason = f"exit code {error.returncode}"
    except subprocess.TimeoutExpired as error:
        reason = f"no answer in {error.timeout:.0f} s"
    except OSError as error:
        reason = str(error)
    raise SetupError(f"{purpose}: {shlex.join(words)}: {reason}")


def make_venv(venv: Path) -> None:
    """Makes an environment with the running interpreter, or says what that needs."""
    print(f"making {venv} with {sys.executable} ({sys.version.split()[0]})", flush=True)
    try:
        run([sys.executable, "-m", "venv", venv], "make the virtual environment")
    except SetupError as error:
        raise SetupError(
            f"{error}\nDebian and Ubuntu need the package python3-venv for this; or name an "
            "environment that you made yourself (VENV=path)"
        ) from error


def ensure_pip(python: Path) -> None:
    """Puts pip into an environment that was made without it."""
    try:
        run([python, "-m", "pip", "--version"], "find pip", capture_output=True)
    except SetupError:
        run([python, "-m", "ensurepip"], "install pip")


def constraints(versions: Mapping[str, str]) -> list[str]:
    """Lines of a constraints file for pip.

    Args:
        versions: those of torch and torchvision, where installed.
    """
    lines = ["setuptools<81\n", *(f"{name}=={version}\n" for name, version in versions.items())]
    if "torch" in versions and release_of(versions["torch"]) < OLDEST_TORCH_FOR_NUMPY_2:
        lines.append("numpy<2\n")
    return lines


def release_of(version: str) -> tuple[int, ...]:
    """Major and minor number of a version of torch: ``"2.14.1+cpu"`` -> ``(2, 14)``."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2])


class Pip:
    """pip of one environment, which never moves the torch that is there."""

    def __init__(self, python: Path, constraints: Path) -> None:
        """Takes the environment's interpreter and a file to write constraints to."""
        self._python = python
        self._constraints = constraints
        self.update_constraints()

    def probe(self) -> dict:
        """Versions of torch and torchvision where installed, and whether Detectron2 is."""
        done = run([self._python, "-c", PROBE], "look into the environment", stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    def update_constraints(self) -> None:
        """Pins the torch and torchvision found now for every later install."""
        self._constraints.write_text("".join(constraints(self.probe()["versions"])))

    def install(self, what: str, *arguments: str, quiet: bool = True) -> None:
        """Runs ``pip install``; `what` is for the reader."""
        print(f"installing {what}", flush=True)
        self._run("install", *(["--quiet"] if quiet else []), *arguments, purpose=f"install {what}")

    def download(self, *arguments: str) -> None:
        """Runs ``pip download``."""
        self._run("download", "--quiet", *arguments, purpose="download", constrained=False)

    def _run(self, verb: str, *arguments: str, purpose: str, constrained: bool = True) -> None:
        command = [self._python, "-m", "pip", "--disable-pip-version-check", "--no-input", verb]
        if constrained:
            command += ["--constraint", self._constraints]
        run([*command, *arguments], purpose, env=_patient_git_environment())


def install_torch(pip: Pip, spec: Sequence[str]) -> None:
    """Installs torch and torchvision unless usable ones are there.

    Raises:
        SetupError: an older torch is there; replacing it is the user's decision.
    """
    found = pip.probe()["versions"]
    if "torch" in found:
        if release_of(found["torch"]) < OLDEST_TORCH:
            oldest = ".".join(map(str, OLDEST_TORCH))
            raise SetupError(
                f"torch {found['torch']} is installed, {oldest} or newer is needed: upgrade it, or "
                "choose another environment (VENV=path)"
            )
        if "torchvision" in found:
            print(f"keeping torch {found['torch']}, torchvision {found['torchvision']}", flush=True)
            return
        # Constrained to the torch that is there, pip picks the torchvision made for it.
        pip.install(f"torchvision for torch {found['torch']}", "torchvision", quiet=False)
    else:
        pip.install(f"torch ({shlex.join(spec)})", *spec, quiet=False)
    pip.update_constraints()


def install_detectron2(pip: Pip, choice: str, scratch: Path) -> None:
    """Installs Detectron2: from its repository, else the snapshot on PyPI.

    Args:
        pip: of the environment.
        choice: ``auto`` (repository, then snapshot), ``git``, ``pypi``, or a requirement for pip.
        scratch: an empty folder for downloads.
    """
    if choice == "pypi":
        install_snapshot(pip, scratch)
        return
    requirement = f"git+{DETECTRON2_GIT}" if choice in ("auto", "git") else choice
    try:
        if choice == "auto":
            check_reachable(DETECTRON2_GIT)
        # No build isolation: its setup.py imports torch, which an isolated build doesn't have.
        pip.install(
            f"Detectron2 from {requirement}", "--no-build-isolation", requirement, quiet=False
        )
    except SetupError as error:
        if choice != "auto":
            raise
        print(f"Detectron2's repository can't be used here ({error})", flush=True)
        install_snapshot(pip, scratch)


def check_reachable(repository: str) -> None:
    """Asks a git server for its head, with a short limit.

    Raises:
        SetupError: git is missing or the server doesn't answer in time.
    """
    if shutil.which("git") is None:
        raise SetupError("git is not installed")
    run(
        ["git", "ls-remote", "--exit-code", repository, "HEAD"],
        "reach the repository",
        env=_patient_git_environment(),
        timeout=CONNECTION_SECONDS,
        stdout=subprocess.DEVNULL,
    )


def _patient_git_environment() -> dict:
    """Environment in which git asks for no password and gives up on a transfer that has stalled."""
    return {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
        "GIT_HTTP_LOW_SPEED_TIME": str(CONNECTION_SECONDS),
    }


def install_snapshot(pip: Pip, scratch: Path) -> None:
    """Downloads the snapshot of Detectron2 and installs it without its compiled module.

    Raises:
        SetupError: the download failed or is not the file expected.
    """
    print(f"downloading {SNAPSHOT}", flush=True)
    pip.download(
        *("--no-deps", "--only-binary=:all:", "--python-version", "3.10", "--platform", "any"),
        *("--dest", str(scratch), SNAPSHOT),
    )
    (wheel,) = scratch.glob("*.whl")
    if _sha256(wheel) != SNAPSHOT_SHA256:
        raise SetupError(f"{wheel.name} has SHA-256 {_sha256(wheel)}, expected {SNAPSHOT_SHA256}")
    pure_folder = scratch / "pure"
    pure_folder.mkdir()
    pure = make_pure_wheel(
        wheel, pure_folder, requirements=SNAPSHOT_REQUIREMENTS, drop_packages=("tools",)
    )
    pip.install(f"Detectron2 ({SNAPSHOT}, pure Python)", str(pure))


if __name__ == "__main__":
    sys.exit(main())
