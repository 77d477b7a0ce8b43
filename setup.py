"""Packages of the distribution and the optional compiled extension; metadata is in pyproject.toml.

The extension is built from ``escnet_d2/layers/csrc``. It only makes things faster, so by default
nothing that goes wrong with it stops an install. Environment:

``ESCNET_BUILD_EXT``
    ``0``: never build. ``1``: build, any failure is fatal. ``auto`` (default): build where torch
    and a compiler are there, else warn and go on.
``FORCE_CUDA``
    ``1``: compile the CUDA sources even where torch was built without CUDA, and fail in mode ``1``
    where no toolkit is found. ``0``: leave them out. Otherwise they are compiled where torch was
    built for CUDA and a toolkit is there.
``CUDA_HOME``
    The CUDA toolkit; by default that of ``nvcc`` on the path, or ``/usr/local/cuda``.
``TORCH_CUDA_ARCH_LIST``
    GPU architectures, ``"8.0;9.0"``; by default those of the GPUs that torch sees, else 7.5 and
    newer.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from setuptools import Extension, find_packages, setup

EXTENSION_NAME = "escnet_d2.layers._C"
# setuptools wants paths relative to this file, and builds with this folder as the current one.
CSRC = Path("escnet_d2/layers/csrc")
# Where no GPU is seen: Turing, Ampere and Ada, Hopper, and code that drivers translate for newer.
DEFAULT_GPUS = "7.5;8.0;9.0+PTX"


def build_mode() -> str:
    """Reads ``ESCNET_BUILD_EXT``: ``"0"``, ``"1"`` or ``"auto"``; anything else is an error."""
    mode = os.environ.get("ESCNET_BUILD_EXT", "auto").strip().lower() or "auto"
    if mode not in ("0", "1", "auto"):
        raise ValueError(f"ESCNET_BUILD_EXT={mode!r}: expected 0, 1 or auto")
    return mode


def has_compiler() -> bool:
    """Tells whether a C++ compiler is on the path: that of ``CXX``, of Python, or a usual one."""
    names = (compiler_command()[0], "c++", "g++", "clang++", "cl")
    return any(shutil.which(name) for name in names)


def compiler_command() -> list[str]:
    """Returns the C++ compiler of ``CXX`` or of Python's build settings, with its arguments."""
    command = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    return shlex.split(command)


def openmp_options() -> list[str]:
    """Returns options with which ``at::parallel_for`` uses threads, or none.

    torch's header turns it into a plain loop otherwise. Only with GCC on Linux: its OpenMP is the
    one that torch brings; that of clang would be a second one in the process.
    """
    if sys.platform != "linux":
        return []
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.cpp")
        probe.write_text(
            "#ifdef __clang__\n#error\n#endif\n"
            "#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n"
        )
        command = [*compiler_command(), "-fopenmp", str(probe), "-o", str(probe.with_suffix(""))]
        try:
            found = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            found = False
    return ["-fopenmp"] if found else []


def cuda_toolkits() -> Iterator[Path]:
    """Yields folders where a CUDA toolkit may be, the likeliest first."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    compiler = shutil.which("nvcc")
    if compiler is not None:
        yield Path(compiler).resolve().parents[1]
    yield Path("/usr/local/cuda")


def find_cuda() -> Path | None:
    """Returns the CUDA toolkit; one without headers, which torch would take, is passed over."""
    for folder in cuda_toolkits():
        if (folder / "bin" / "nvcc").exists() and (folder / "include/cuda_runtime.h").exists():
            return folder
    return None


def sources(*, with_cuda: bool) -> list[str]:
    """Lists the sources: ``cuda/*.cpp`` joins torch to the kernels, ``cuda/*.cu`` needs nvcc."""
    patterns = ["*.cpp", "cpu/*.cpp", *(["cuda/*.cpp", "cuda/*.cu"] if with_cuda else [])]
    return sorted(str(path) for pattern in patterns for path in CSRC.glob(pattern))


def extension_options(mode: str) -> dict:
    """Returns arguments of ``setup()`` that build the extension; none where it is left out.

    Args:
        mode: what :func:`build_mode` returned.

    Raises:
        RuntimeError: in mode ``"1"`` where there are no sources, no compiler or no torch.
    """
    if mode == "0" or (mode == "auto" and not sources(with_cuda=False)):
        return {}
    try:
        if not sources(with_cuda=False):
            raise RuntimeError(f"no sources in {CSRC}")
        if not has_compiler():
            raise RuntimeError("no C++ compiler found")
        return _torch_extension(required=mode == "1")
    except (ImportError, OSError, RuntimeError) as error:
        if mode == "1":
            raise RuntimeError(f"ESCNET_BUILD_EXT=1, but it can't be built: {error}") from error
        warnings.warn(f"compiled extension left out: {error}", stacklevel=2)
        return {}


def _wants_cuda(toolkit: Path | None, cuda_of_torch: str | None, *, required: bool) -> bool:
    forced = os.environ.get("FORCE_CUDA", "")
    if forced == "0":
        return False
    if forced == "1" and toolkit is None and required:
        raise RuntimeError("FORCE_CUDA=1, but no CUDA toolkit was found: set CUDA_HOME")
    return toolkit is not None and (forced == "1" or cuda_of_torch is not None)


def _torch_extension(*, required: bool) -> dict:
    toolkit = find_cuda()
    if toolkit is not None:
        # torch reads it once, when its build tools are imported.
        os.environ["CUDA_HOME"] = str(toolkit)
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    openmp = openmp_options()

    def extension(*, with_cuda: bool) -> Extension:
        # Python's own settings ask for two things that don't suit: debugging symbols, which would
        # be most of the library, and signed overflow that wraps, which makes vector loops slow.
        compile_args = {"cxx": ["-O3", "-g0", "-fno-wrapv", *openmp]}
        if with_cuda:
            compile_args["nvcc"] = ["-O3"]
        return (CUDAExtension if with_cuda else CppExtension)(
            EXTENSION_NAME,
            sources(with_cuda=with_cuda),
            define_macros=[
                # Checked before the library is loaded into another torch, which could crash.
                ("ESCNET_TORCH_VERSION", f'"{torch.__version__}"'),
                *([("WITH_CUDA", None)] if with_cuda else []),
            ],
            extra_compile_args=compile_args,
            extra_link_args=openmp,
            depends=[str(path) for path in sorted([*CSRC.rglob("*.h"), *CSRC.rglob("*.cuh")])],
        )

    class OptionalBuildExtension(BuildExtension):
        """Unless the extension was asked for, goes on without CUDA or without it when it fails."""

        def finalize_options(self) -> None:
            super().finalize_options()
            # The age of the files does not tell that another torch was installed.
            self.force = True

        def run(self) -> None:
            options = {"compiler": self.compiler, "inplace": self.inplace}
            try:
                super().run()
            except Exception as error:  # compilers, ninja and nvcc fail in many ways
                if required:
                    raise
                (failed,) = self.extensions
                if any(source.endswith(".cu") for source in failed.sources):
                    warnings.warn(f"CUDA left out of the extension: {error}", stacklevel=2)
                    # Again with the options that the failed run changed, and with the same object,
                    # which setuptools has prepared.
                    vars(self).update(options)
                    vars(failed).update(vars(extension(with_cuda=False)))
                    self.run()
                else:
                    warnings.warn(f"compiled extension left out: {error}", stacklevel=2)
                    # Later steps gather the libraries of this list.
                    self.extensions = []

    with_cuda = _wants_cuda(toolkit, torch.version.cuda, required=required)
    has_kernels = any(CSRC.glob("cuda/*.cu"))
    if not torch.cuda.is_available():
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_GPUS)
    return {
        "ext_modules": [extension(with_cuda=with_cuda and has_kernels)],
        "cmdclass": {"build_ext": OptionalBuildExtension},
    }


if __name__ == "__main__":
    setup(
        packages=[
            *find_packages(include=["escnet_d2", "escnet_d2.*"]),
            *(f"escnet_d2.projects.{name}" for name in find_packages("projects/shapes", ["tests"])),
            "escnet_d2.configs",
        ],
        # These sit at the top of the repository and travel inside the package.
        package_dir={
            "escnet_d2.configs": "configs",
            "escnet_d2.projects.shapes": "projects/shapes/shapes",
        },
        package_data={
            "escnet_d2": ["py.typed", "**/*.json", "**/*.txt", "**/*.csv", "**/*.safetensors"],
            "escnet_d2.configs": ["**/*.yaml"],
        },
        # Only what is named above, not every file that a build has seen.
        include_package_data=False,
        zip_safe=False,
        **extension_options(build_mode()),
    )
