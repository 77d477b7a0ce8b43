"""Says what is installed, what works and how to get the rest.

::

    escnet-d2 doctor

It must run where nothing else does: versions come from the packages' metadata, and whatever must be
imported is imported inside a function, whose failure becomes a line of the report.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import escnet_d2

# Of torch.utils.collect_env.
MACHINE_FIELDS = ("python_version", "os", "gcc_version", "cuda_compiled_version", "cudnn_version")
MACHINE_FIELDS += ("nvidia_driver_version", "nvidia_gpu_models", "is_cuda_available")
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
    """Looks at everything; returns entries under their titles."""
    report = {"Package": [import_entry()]}
    for title, look in {
        "Requirements": requirement_entries,
        "Machine": machine_entries,
        "Compiled extension": extension_entries,
        "Weights": weights_entries,
        "Data sets": dataset_entries,
    }.items():
        try:
            report[title] = look()
        except Exception as error:  # noqa: BLE001 - as for the import
            report[title] = [Entry("unknown", str(error), NOTE)]
    return report


def import_entry(room: str = "escnet_d2.engine") -> Entry:
    """Imports the whole package, by what it registers and the room that imports every other one."""
    try:
        importlib.import_module(room)
        escnet_d2.register()
        import torch

        # Fails in a torch built for another NumPy, where importing both does not.
        torch.zeros(1).numpy()
    except Exception as error:  # noqa: BLE001 - a part built for another NumPy may raise anything
        value = f"its import fails: {type(error).__name__}: {error}"
        return Entry("escnet_d2", value, PROBLEM, "make setup; then see Trouble in INSTALL.md")
    return Entry("escnet_d2", f"{escnet_d2.__version__} in {Path(escnet_d2.__file__).parent}")


def requirement_entries(distribution: str = "escnet-d2") -> list[Entry]:
    """Compares the installed versions with what a package requires; Detectron2 comes last."""
    from packaging.requirements import Requirement

    entries = []
    for requirement in map(Requirement, importlib.metadata.requires(distribution) or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            name, bounds = requirement.name, requirement.specifier
            found = _installed(name)
            value = found.version if found else "missing"
            if found and bounds.contains(value, prereleases=True):
                entries.append(Entry(name, value))
                continue
            fix = f"make setup, or pip install '{name}{bounds}'"
            entries.append(Entry(name, f"{value}, needed: {requirement}", PROBLEM, fix))
    return [*entries, detectron2_entry()]


def detectron2_entry() -> Entry:
    """Names Detectron2's origin, as its release and its main branch have the same version."""
    found = _installed("detectron2") or _installed("sal-detectron2")
    if found is None:
        state = NOTE if "detectron2" in sys.modules else PROBLEM
        fix = "make setup, or python tools/install_detectron2.py"
        return Entry("detectron2", "not installed by pip", state, fix)
    source = json.loads(found.read_text("direct_url.json") or "{}")
    commit = source.get("vcs_info", {}).get("commit_id")
    origin = f" from {source['url']} at {commit}" if commit else ""
    return Entry("detectron2", f"{found.metadata['Name']} {found.version}{origin}")


def _installed(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_entries() -> list[Entry]:
    """Lists Python, compiler, CUDA and GPUs, as torch sees them."""
    from torch.utils.collect_env import get_env_info

    info = get_env_info()._asdict()
    found = {name: str(info[name] or "none").splitlines() for name in MACHINE_FIELDS}
    return [Entry(name, "; ".join(lines)) for name, lines in found.items()]


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
    value = "built for CPU and CUDA" if extension.has_cuda else "built for CPU"
    if not extension.has_openmp:
        value += " on one thread (without GCC's OpenMP)"
    if torch.cuda.is_available() and not extension.has_cuda:
        return [Entry(name, f"{value}; on GPUs {instead}", NOTE)]
    return [Entry(name, value)]


def weights_entries() -> list[Entry]:
    """Finds the released weights of CLIP and SAM, without network."""
    from escnet_d2.weights import find_released

    entries = []
    for name, path in find_released().items():
        missing = f"not here; python tools/download_weights.py {name} gets it"
        entries.append(Entry(name, str(path or missing), OK if path else NOTE))
    return entries


def dataset_entries() -> list[Entry]:
    """Looks for each benchmark in the folder of data sets."""
    from escnet_d2.data.datasets.builtin import dataset_status
    from escnet_d2.data.sem_seg_dataset import datasets_root

    root = datasets_root()
    entries = [Entry("DETECTRON2_DATASETS", str(root))]
    for name, (num_images, problem) in dataset_status().items():
        value = problem.replace(f"{root}/", "") or f"complete, {num_images} images"
        entries.append(Entry(name, value, NOTE if problem else OK))
    return entries


def problems_of(report: dict[str, list[Entry]]) -> list[Entry]:
    """Returns the entries that need a repair."""
    return [entry for entries in report.values() for entry in entries if entry.state == PROBLEM]


def render(report: dict[str, list[Entry]]) -> str:
    """Writes the report for people; it ends with the repairs, or with what works and what not."""
    marks = {OK: " ", NOTE: " ", PROBLEM: "!"}
    lines = []
    for title, entries in report.items():
        width = max(len(entry.name) for entry in entries)
        lines += [title, *(f"  {marks[e.state]} {e.name:<{width}}  {e.value}" for e in entries), ""]
    if problems := problems_of(report):
        return "\n".join([*lines, "To repair:", *(f"  {e.name}: {e.fix}" for e in problems)])
    lines.append("Photos, training and evaluation on folders of your own work.")
    cures = {"Weights": "python tools/download_weights.py", "Data sets": "datasets/README.md"}
    for title, cure in cures.items():
        absent = ", ".join(entry.name for entry in report[title] if entry.state == NOTE)
        lines += [f"{title} that are not here yet ({cure}): {absent}."] if absent else []
    return "\n".join(lines)


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; returns 0 where the package can be used, else 1."""
    options = argument_parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = examine()
    problems = problems_of(report)
    content = {"usable": not problems, "problems": problems, "sections": report}
    text = json.dumps(content, default=asdict, indent=2) if options.json else render(report)
    sys.stdout.write(f"{text}\n")
    return 1 if problems else 0
