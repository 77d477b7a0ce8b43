"""Compiles the CUDA kernels, without a GPU, and fails where one of them spills registers.

    python tools/check_cuda_build.py                     # sm_80 and sm_90
    python tools/check_cuda_build.py --gpus 75 86

nvcc compiles the kernels; what ptxas reports of each is printed, and any spill or stack frame is an
error. A C++ compiler checks the code that calls them against the headers of torch. Says so and ends
well where no CUDA toolkit is found (``CUDA_HOME``, ``nvcc`` on the path, ``/usr/local/cuda``).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CUDA_SOURCES = ROOT / "escnet_d2" / "layers" / "csrc" / "cuda"
sys.path.insert(0, str(ROOT))

from setup import find_cuda  # noqa: E402

_KERNEL = re.compile(r"Compiling entry function '(?P<name>\w+)' for '(?P<gpu>\w+)'")
_MEMORY = re.compile(
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
)
_REGISTERS = re.compile(r"Used (?P<registers>\d+) registers")


@dataclass(frozen=True)
class Kernel:
    """Resources of one kernel, as ptxas reports them; sizes in bytes per thread."""

    name: str
    gpu: str
    registers: int
    stack: int
    spills: int

    @property
    def is_good(self) -> bool:
        """True if all of it stays in registers."""
        return self.stack == 0 and self.spills == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", nargs="+", default=["80", "90"], help="compute capabilities")
    options = parser.parse_args(arguments)
    toolkit = find_cuda()
    if toolkit is None:
        print("CUDA check skipped: no CUDA toolkit found (set CUDA_HOME)")
        return 0
    try:
        kernels = [
            kernel
            for source in sorted(CUDA_SOURCES.glob("*.cu"))
            for kernel in compile_kernels(source, toolkit, options.gpus)
        ]
        for source in sorted(CUDA_SOURCES.glob("*.cpp")):
            check_host_code(source, toolkit)
    except (RuntimeError, OSError) as error:
        print(f"CUDA check failed: {error}", file=sys.stderr)
        return 1
    for kernel in kernels:
        print(
            f"{kernel.gpu} {kernel.name}: {kernel.registers} registers, "
            f"{kernel.stack} bytes of stack, {kernel.spills} bytes spilled"
        )
    bad = [kernel for kernel in kernels if not kernel.is_good]
    if bad or not kernels:
        print(f"CUDA check failed: {len(bad)} of {len(kernels)} kernels spill", file=sys.stderr)
        return 1
    print(f"CUDA check passed: {len(kernels)} kernels, no spills, no stack frames")
    return 0


def compile_kernels(source: Path, toolkit: Path, gpus: Sequence[str]) -> list[Kernel]:
    """Compiles a file for some GPUs.

    Args:
        source: a file for nvcc.
        toolkit: folder of the CUDA toolkit.
        gpus: compute capabilities without dot.

    Raises:
        RuntimeError: it can't be compiled.
    """
    targets = [f"--generate-code=arch=compute_{gpu},code=sm_{gpu}" for gpu in gpus]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(str(toolkit / "bin" / "nvcc"), "-std=c++17", "-O3", "-Xptxas", "-v", *targets),
            *("-c", str(source), "-o", str(Path(folder) / "kernels.o")),
        ]
        return parse_report(_run(command))


def parse_report(text: str) -> list[Kernel]:
    """Kernels of a report that ``ptxas -v`` wrote.

    Raises:
        RuntimeError: it has kernels without all of the numbers.
    """
    kernels = []
    for part in re.split(r"(?=ptxas info\s*: Compiling entry function)", text)[1:]:
        kernel, memory, registers = (p.search(part) for p in (_KERNEL, _MEMORY, _REGISTERS))
        if not (kernel and memory and registers):
            raise RuntimeError(f"can't read what ptxas says: {part.strip()}")
        kernels.append(
            Kernel(
                _readable(kernel["name"]),
                kernel["gpu"],
                registers=int(registers["registers"]),
                stack=int(memory["stack"]),
                spills=int(memory["stores"]) + int(memory["loads"]),
            )
        )
    return kernels


def _readable(mangled: str) -> str:
    """``..28masked_kmeans_forward_kernelILi5EEEv..`` -> ``masked_kmeans_forward_kernel<5>``."""
    found = re.search(r"(?:.*\d)?([a-z]\w*?_kernel)(?:ILi(\d+)E\w*)?$", mangled)
    if found is None:
        return mangled
    return found[1] + (f"<{found[2]}>" if found[2] else "")


def check_host_code(source: Path, toolkit: Path) -> None:
    """Lets a C++ compiler check the types of a file that includes torch; makes no code.

    Raises:
        RuntimeError: it is wrong.
    """
    os.environ["CUDA_HOME"] = str(toolkit)
    from torch.utils.cpp_extension import include_paths

    folders = [*include_paths(), str(toolkit / "include")]
    # torch 2.13 and later need C++20, and compilers that know it serve the older ones too.
    options = ["-std=c++20", "-fsyntax-only", *(f"-I{folder}" for folder in folders)]
    _run(["c++", *options, str(source)])


def _run(command: Sequence[str]) -> str:
    """Runs a command and returns what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
