"""Says what is installed, what is missing and how to fix it: ``python -m escnet_d2.doctor``.

It must run where nothing works yet, so each package is imported on its own, inside a function, and
a failure becomes a line of the report.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from .version import __version__

DETECTRON2_INSTALL = (
    "make setup, or pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2.git'"
)
OLDEST_PYTHON = (3, 9)
# What importing an installed package is known to raise: a missing part, a shared library of another
# CUDA, operators of another torch, names that a newer NumPy or Pillow took away.
IMPORT_FAILURES = (ImportError, OSError, RuntimeError, AttributeError)

OK = "ok"
# Worth knowing, nothing to repair.
NOTE = "note"
# The package can't be used until this is fixed, or a part of it is broken.
PROBLEM = "problem"


@dataclass(frozen=True)
class Entry:
    """One line of the report.

    Attributes:
        name: what was looked at.
        value: what was found.
        state: ``OK``, ``NOTE`` or ``PROBLEM``.
        fix: the command or step that repairs a problem, else "".
    """

    name: str
    value: str
    state: str = OK
    fix: str = ""


@dataclass(frozen=True)
class Section:
    """Entries under one title."""

    title: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Requirement:
    """A package that the project imports.

    Attributes:
        distribution: its name for pip.
        modules: imported to see whether it works, the first one has the version.
        oldest: the first release that serves, () for any.
        fix: command that installs it.
    """

    distribution: str
    modules: tuple[str, ...]
    oldest: tuple[int, ...] = ()
    fix: str = ""

    @property
    def command(self) -> str:
        """What the user can do about it."""
        bound = f">={'.'.join(map(str, self.oldest))}" if self.oldest else ""
        return self.fix or f"make setup, or pip install '{self.distribution}{bound}'"


REQUIREMENTS = (
    Requirement("torch", ("torch",), (2, 2)),
    Requirement("torchvision", ("torchvision",)),
    # Its rooms break one by one where the release is too old for NumPy and Pillow.
    Requirement("detectron2", ("detectron2", "detectron2.engine"), fix=DETECTRON2_INSTALL),
    Requirement("open_clip_torch", ("open_clip",), (3, 0)),
    Requirement("segment-anything", ("segment_anything",)),
    Requirement("fvcore", ("fvcore",)),
    Requirement("iopath", ("iopath",)),
    Requirement("pycocotools", ("pycocotools.mask",)),
    Requirement("numpy", ("numpy",)),
    Requirement("Pillow", ("PIL",), (10, 1)),
    Requirement("opencv-python-headless", ("cv2",)),
    Requirement("safetensors", ("safetensors",)),
    Requirement("huggingface_hub", ("huggingface_hub",)),
)


def examine() -> list[Section]:
    """Looks at everything.

    Returns:
        The sections of the report, in reading order.
    """
    return [
        Section("Interpreter", [_python_entry(), _own_entry()]),
        Section(
            "Packages",
            [*map(requirement_entry, REQUIREMENTS), *_numpy_entries(), *_detectron2_entries()],
        ),
        Section("Devices", device_entries()),
        Section("Compiled extension", [extension_entry()]),
        Section("Weights", weights_entries()),
        Section("Data sets", dataset_entries()),
    ]


def problems(sections: Iterable[Section]) -> list[Entry]:
    """Everything that keeps the package from being used."""
    return [entry for section in sections for entry in section.entries if entry.state == PROBLEM]


def _python_entry() -> Entry:
    value = f"{platform.python_version()} on {platform.platform()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return Entry("Python", value, PROBLEM, "make setup PYTHON=python3.9 (or newer)")
    return Entry("Python", value)


def _own_entry() -> Entry:
    try:
        # The room that imports every other one.
        importlib.import_module("escnet_d2.engine")
    except IMPORT_FAILURES as error:
        return _broken_room("escnet_d2", error)
    return Entry("escnet_d2", f"{__version__} in {Path(__file__).parent}")


def requirement_entry(requirement: Requirement) -> Entry:
    """Imports a package and reads its version.

    Args:
        requirement: the package.

    Returns:
        Its entry: a problem where it is missing, fails to import or is too old.
    """
    name = requirement.distribution
    top_level = requirement.modules[0]
    if _find_spec(top_level.split(".")[0]) is None:
        return Entry(name, "missing", PROBLEM, requirement.command)
    try:
        module = importlib.import_module(top_level)
        for part in requirement.modules[1:]:
            importlib.import_module(part)
    except IMPORT_FAILURES as error:
        reason = f"installed, but its import fails: {type(error).__name__}: {error}"
        return Entry(name, reason, PROBLEM, requirement.command)
    version = _version_of(name, module)
    if _release(version) < requirement.oldest:
        oldest = ".".join(map(str, requirement.oldest))
        return Entry(name, f"{version}, {oldest} or newer is needed", PROBLEM, requirement.command)
    return Entry(name, version)


def _find_spec(module: str) -> object:
    # A folder called like the package, without code in it, is found as a namespace with no loader.
    spec = importlib.util.find_spec(module)
    return None if spec is None or spec.origin is None else spec


def _version_of(distribution: str, module: ModuleType) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(module, "__version__", "unknown version"))


def _release(version: str) -> tuple[int, ...]:
    """Leading numbers of a version, "2.14.1+cpu" -> (2, 14, 1); without any it ranks highest."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers) or (sys.maxsize,)


def _numpy_entries() -> list[Entry]:
    """A problem where torch can't exchange arrays with NumPy; importing both does not show that."""
    try:
        import torch

        torch.zeros(1).numpy()
    except RuntimeError as error:
        fix = "pip install 'numpy<2', or torch 2.3 or newer"
        return [Entry("torch with numpy", str(error), PROBLEM, fix)]
    except IMPORT_FAILURES:
        pass  # reported above
    return []


def _detectron2_entries() -> list[Entry]:
    spec = _find_spec("detectron2")
    if spec is None:
        return []
    folder = Path(str(spec.origin)).parent
    compiled = sorted(folder.glob("_C*"))
    entries = [Entry("detectron2 from", _origin_of_detectron2(folder))]
    absent = Entry("detectron2._C", "not there; semantic segmentation does not use it", NOTE)
    entries.append(Entry("detectron2._C", compiled[0].name) if compiled else absent)
    if _find_spec("pkg_resources") is None:
        value = "missing, so detectron2.model_zoo can't be imported; nothing here uses it"
        entries.append(Entry("pkg_resources", value, NOTE, "pip install 'setuptools<81'"))
    return entries


def _origin_of_detectron2(folder: Path) -> str:
    for name in ("detectron2", "sal-detectron2"):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        source = _direct_url(distribution)
        kind = f"{name} {distribution.version}"
        if name == "sal-detectron2":
            kind += ", a snapshot of Detectron2's main branch of late 2024 from PyPI"
        return f"{kind}{f' from {source}' if source else ''}, in {folder}"
    return f"{folder}, not installed by pip"


def _direct_url(distribution: importlib.metadata.Distribution) -> str:
    """Address and commit that pip recorded for an install from git; "" for other installs."""
    record = json.loads(distribution.read_text("direct_url.json") or "{}")
    commit = record.get("vcs_info", {}).get("commit_id", "")
    return f"{record['url']} at {commit}" if commit else ""


def device_entries() -> list[Entry]:
    """CUDA, cuDNN and the devices that torch sees; one note where torch is missing."""
    try:
        import torch
    except IMPORT_FAILURES:
        return [Entry("devices", "unknown without torch", NOTE)]
    if torch.version.cuda is None:
        entries = [Entry("CUDA", "this torch was built without it", NOTE)]
    else:
        entries = [
            Entry("CUDA", f"torch was built for {torch.version.cuda}"),
            Entry("cuDNN", str(torch.backends.cudnn.version() or "not found")),
        ]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.1f} GiB"
        value = f"{properties.name}, {memory}, compute {properties.major}.{properties.minor}"
        entries.append(Entry(f"cuda:{index}", value))
    if not torch.cuda.is_available():
        entries.append(Entry("CUDA devices", "none: MODEL.DEVICE must be cpu", NOTE))
    return [*entries, Entry("cpu", f"{torch.get_num_threads()} threads")]


def extension_entry(folder: Path | None = None) -> Entry:
    """Whether the compiled extension was built, loads and has what this machine can use.

    Args:
        folder: where the build puts the library ``_C*.so``; that of the package by default.

    Returns:
        A note where there is none, since torch code serves instead; a problem where it was built
        for another torch or can't load.
    """
    name = "escnet_d2.layers._C"
    try:
        import torch

        from escnet_d2.layers.extension import FOLDER, ExtensionError, load_extension
    except IMPORT_FAILURES as error:
        return Entry(name, f"unknown, an import fails: {error}", NOTE)
    try:
        extension = load_extension(folder or FOLDER)
    except ExtensionError as error:
        value = f"{error.reason}; torch code with the same results serves instead"
        return Entry(name, value, PROBLEM, error.fix)
    if extension is None:
        value = "not built; torch code with the same results serves instead"
        return Entry(name, value, NOTE)
    devices = "CPU and CUDA" if extension.has_cuda else "CPU"
    threads = "" if extension.has_openmp else " on one thread (built without GCC's OpenMP)"
    value = f"built for {devices}{threads}, torch {extension.torch_version}: {extension.library}"
    if torch.cuda.is_available() and not extension.has_cuda:
        return Entry(name, f"{value}; on GPUs torch code serves instead", NOTE)
    return Entry(name, value)


def weights_entries() -> list[Entry]:
    """The released weights that are on this machine."""
    try:
        from escnet_d2.weights import find_released
    except IMPORT_FAILURES as error:
        return [_broken_room("weights", error)]
    return [
        Entry(name, str(path))
        if path
        else Entry(name, f"not here; python tools/download_weights.py {name} gets it", NOTE)
        for name, path in find_released().items()
    ]


def dataset_entries() -> list[Entry]:
    """The folder of data sets and the state of each benchmark in it."""
    chosen = os.environ.get("DETECTRON2_DATASETS")
    origin = "DETECTRON2_DATASETS" if chosen else "the default; DETECTRON2_DATASETS sets another"
    root = Path(chosen or "datasets").expanduser().absolute()
    entries = [Entry("looked for in", f"{root} ({origin})")]
    try:
        from escnet_d2.data.datasets.builtin import dataset_status
    except IMPORT_FAILURES as error:
        return [*entries, _broken_room("benchmarks", error)]
    for status in dataset_status():
        if status.is_ready:
            entries.append(Entry(status.name, f"complete, {status.num_images} images"))
        else:
            entries.append(Entry(status.name, status.problem.replace(f"{root}/", ""), NOTE))
    return entries


def _broken_room(name: str, error: Exception) -> Entry:
    fix = "install the packages above; if all are there, this copy of escnet_d2 is damaged"
    return Entry(name, f"import fails: {type(error).__name__}: {error}", PROBLEM, fix)


def render(sections: Sequence[Section]) -> str:
    """The report for people, with the repairs at its end.

    Args:
        sections: what :func:`examine` returned.
    """
    lines = []
    for section in sections:
        width = max(len(entry.name) for entry in section.entries)
        lines.append(section.title)
        lines += [
            f"  {'!' if entry.state == PROBLEM else ' '} {entry.name:<{width}}  {entry.value}"
            for entry in section.entries
        ]
        lines.append("")
    broken = problems(sections)
    if broken:
        lines.append("To repair:")
        lines += [f"  {entry.name}: {entry.fix}" for entry in broken]
    else:
        lines.append("Everything needed is there.")
    return "\n".join(lines)


def as_json(sections: Sequence[Section]) -> str:
    """The report for programs.

    Args:
        sections: what :func:`examine` returned.

    Returns:
        A JSON object: ``usable`` (bool), ``problems`` (list of entries) and ``sections``, which
        maps each title to its list of entries with the fields of :class:`Entry`.
    """
    report = {
        "usable": not problems(sections),
        "problems": [asdict(entry) for entry in problems(sections)],
        "sections": {s.title: [asdict(entry) for entry in s.entries] for s in sections},
    }
    return json.dumps(report, indent=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report.

    Args:
        arguments: of the command line, ``sys.argv`` by default.

    Returns:
        0 where the package can be used, 1 where something is missing.
    """
    parser = argparse.ArgumentParser(prog="python -m escnet_d2.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        # Deprecations inside other packages would drown the report.
        warnings.simplefilter("ignore")
        sections = examine()
    sys.stdout.write(f"{as_json(sections) if options.json else render(sections)}\n")
    return 1 if problems(sections) else 0


if __name__ == "__main__":
    sys.exit(main())
