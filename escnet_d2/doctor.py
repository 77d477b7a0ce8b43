"""Says what is installed, what works and how to get the rest: ``python -m escnet_d2.doctor``.

It must run where nothing else does: versions come from the packages' metadata, and whatever must be
imported is imported inside a function, whose failure becomes a line of the report.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .version import __version__

DETECTRON2 = "git+https://github.com/facebookresearch/detectron2.git"
# Of torch.utils.collect_env.
MACHINE_FIELDS = ("python_version", "os", "gcc_version", "cuda_compiled_version", "cudnn_version")
MACHINE_FIELDS += ("nvidia_driver_version", "nvidia_gpu_models")
# A missing part, a shared library of another CUDA, operators of another torch, names that a newer
# NumPy or Pillow took away.
IMPORT_FAILURES = (ImportError, OSError, RuntimeError, AttributeError)

# A note is worth knowing; with a problem, the package or a part of it can't be used.
OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Entry:
    """One line of the report: what was looked at and found, and the repair of a problem."""

    name: str
    value: str
    state: str = OK
    fix: str = ""


def examine() -> dict[str, list[Entry]]:
    """Looks at everything; returns the report, entries under their titles."""
    return {
        "Package": [import_entry()],
        "Requirements": _attempt(requirement_entries),
        "Machine": _attempt(machine_entries),
        "Compiled extension": _attempt(extension_entries),
        "Weights": _attempt(weights_entries),
        "Data sets": _attempt(dataset_entries),
    }


def _attempt(look: Callable[[], list[Entry]]) -> list[Entry]:
    try:
        return look()
    except IMPORT_FAILURES as error:
        return [Entry("unknown", str(error), NOTE)]


def select(state: str, *sections: Sequence[Entry]) -> list[Entry]:
    """The entries in a state."""
    return [entry for section in sections for entry in section if entry.state == state]


def import_entry(room: str = "escnet_d2.engine") -> Entry:
    """Imports the whole package, by the room that imports every other one."""
    try:
        importlib.import_module(room)
        import torch

        # Fails in a torch built for another NumPy, where importing both does not.
        torch.zeros(1).numpy()
    except IMPORT_FAILURES as error:
        value = f"its import fails: {type(error).__name__}: {error}"
        return Entry("escnet_d2", value, PROBLEM, "make setup; then see Trouble in INSTALL.md")
    return Entry("escnet_d2", f"{__version__} in {Path(__file__).parent}")


def requirement_entries(distribution: str = "escnet-d2") -> list[Entry]:
    """Compares the installed versions with what a package requires; Detectron2 comes last."""
    from packaging.requirements import Requirement

    entries = []
    for requirement in map(Requirement, importlib.metadata.requires(distribution) or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            name, bounds = requirement.name, requirement.specifier
            found = _installed(name)
            if found is not None and bounds.contains(found.version, prereleases=True):
                entries.append(Entry(name, found.version))
            else:
                value = "missing" if found is None else f"{found.version}, but {bounds} is needed"
                fix = f"make setup, or pip install '{name}{bounds}'"
                entries.append(Entry(name, value, PROBLEM, fix))
    return [*entries, detectron2_entry()]


def detectron2_entry() -> Entry:
    """Origin of Detectron2: its release of 2021 and its main branch have the same version."""
    spec = importlib.util.find_spec("detectron2")
    # A folder of that name without code is found too, without an origin.
    if spec is None or spec.origin is None:
        fix = f"make setup, or pip install --no-build-isolation '{DETECTRON2}'"
        return Entry("detectron2", "missing", PROBLEM, fix)
    found = _installed("detectron2") or _installed("sal-detectron2")
    if found is None:
        return Entry("detectron2", f"in {Path(spec.origin).parent}")
    source = json.loads(found.read_text("direct_url.json") or "{}")
    commit = source.get("vcs_info", {}).get("commit_id")
    origin = f"{source['url']} at {commit}" if commit else found.metadata["Name"]
    return Entry("detectron2", f"{found.version} from {origin}")


def _installed(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_entries() -> list[Entry]:
    """Python, compilers, CUDA and GPUs, as torch sees them."""
    import torch
    from torch.utils.collect_env import get_env_info

    info = get_env_info()
    found = {name: str(getattr(info, name) or "none") for name in MACHINE_FIELDS}
    entries = [Entry(name, "; ".join(value.splitlines())) for name, value in found.items()]
    if not torch.cuda.is_available():
        entries.append(Entry("CUDA devices", "none: MODEL.DEVICE must be cpu", NOTE))
    return entries


def extension_entries(folder: Path | None = None) -> list[Entry]:
    """Tells whether the compiled extension in a folder (default: its own) loads and fits."""
    import torch

    from escnet_d2.layers.extension import FOLDER, ExtensionError, load_extension

    name = "escnet_d2.layers._C"
    instead = "torch code with the same results is used instead"
    try:
        extension = load_extension(folder or FOLDER)
    except ExtensionError as error:
        return [Entry(name, f"{error.reason}; {instead}", PROBLEM, error.fix)]
    if extension is None:
        return [Entry(name, f"not built; {instead}", NOTE)]
    devices = "CPU and CUDA" if extension.has_cuda else "CPU"
    threads = "" if extension.has_openmp else " on one thread (built without GCC's OpenMP)"
    lacks_cuda = torch.cuda.is_available() and not extension.has_cuda
    value = f"built for {devices}{threads}{f'; on GPUs {instead}' if lacks_cuda else ''}"
    return [Entry(name, value, NOTE if lacks_cuda else OK)]


def weights_entries() -> list[Entry]:
    """The released weights of CLIP and SAM, found without network."""
    from escnet_d2.weights import find_released

    found = find_released().items()
    return [Entry(name, str(path or "missing"), OK if path else NOTE) for name, path in found]


def dataset_entries() -> list[Entry]:
    """The state of each benchmark in the folder of data sets."""
    from escnet_d2.data.datasets.builtin import dataset_status

    root = Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser().absolute()
    entries = [Entry("DETECTRON2_DATASETS", str(root))]
    for status in dataset_status():
        value = status.problem.replace(f"{root}/", "") or f"complete, {status.num_images} images"
        entries.append(Entry(status.name, value, OK if status.is_ready else NOTE))
    return entries


def render(report: dict[str, list[Entry]]) -> str:
    """The report for people; it ends with the repairs, or with what works and what does not."""
    marks = {OK: " ", NOTE: " ", PROBLEM: "!"}
    lines = []
    for title, entries in report.items():
        width = max(len(entry.name) for entry in entries)
        lines += [title, *(f"  {marks[e.state]} {e.name:<{width}}  {e.value}" for e in entries), ""]
    problems = select(PROBLEM, *report.values())
    if problems:
        return "\n".join([*lines, "To repair:", *(f"  {e.name}: {e.fix}" for e in problems)])
    lines.append("Photos, training and evaluation on folders of your own work.")
    cures = {"Weights": "python tools/download_weights.py", "Data sets": "datasets/README.md"}
    for title, cure in cures.items():
        absent = ", ".join(entry.name for entry in select(NOTE, report[title]))
        lines += [f"{title} that are not here yet ({cure}): {absent}."] if absent else []
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; returns 0 where the package can be used, else 1."""
    parser = argparse.ArgumentParser(prog="python -m escnet_d2.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = examine()
    problems = select(PROBLEM, *report.values())
    content = {"usable": not problems, "problems": problems, "sections": report}
    text = json.dumps(content, default=asdict, indent=2) if options.json else render(report)
    sys.stdout.write(f"{text}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
