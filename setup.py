"""Packages of the distribution and the optional compiled extension; metadata is in pyproject.toml.

The extension is built from ``escnet_d2/layers/csrc`` where that folder has sources. It only makes
things faster, so by default nothing that goes wrong with it stops an install. Environment:

``ESCNET_BUILD_EXT``
    ``0``: never build. ``1``: build, any failure is fatal. ``auto`` (default): build where torch
    and a compiler are there, else warn and go on.
``FORCE_CUDA``
    ``1``: compile the CUDA sources even where torch sees no CUDA toolkit or was built without CUDA.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import warnings
from pathlib import Path

from setuptools import Extension, find_packages, setup

EXTENSION_NAME = "escnet_d2.layers._C"
# setuptools wants paths relative to this file, and builds with this folder as the current one.
CSRC = Path("escnet_d2/layers/csrc")


def build_mode() -> str:
    """Reads ``ESCNET_BUILD_EXT``: ``"0"``, ``"1"`` or ``"auto"``; anything else is an error."""
    mode = os.environ.get("ESCNET_BUILD_EXT", "auto").strip().lower() or "auto"
    if mode not in ("0", "1", "auto"):
        raise ValueError(f"ESCNET_BUILD_EXT={mode!r}: expected 0, 1 or auto")
    return mode


def has_compiler() -> bool:
    """Whether a C++ compiler is on the path, going by ``CXX`` or Python's own build settings."""
    command = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    return any(shutil.which(name) for name in (command.split()[0], "c++", "g++", "clang++", "cl"))


def extension_options(mode: str) -> dict:
    """Arguments of ``setup()`` that build the extension; empty where it is not to be built.

    Args:
        mode: what :func:`build_mode` returned.

    Raises:
        RuntimeError: in mode ``"1"`` where there are no sources, no compiler or no torch.
    """
    sources = sorted(str(path) for folder in (CSRC, CSRC / "cpu") for path in folder.glob("*.cpp"))
    if mode == "0" or (mode == "auto" and not sources):
        return {}
    try:
        if not sources:
            raise RuntimeError(f"no sources in {CSRC}")
        if not has_compiler():
            raise RuntimeError("no C++ compiler found")
        return _torch_extension(sources, required=mode == "1")
    except (ImportError, OSError, RuntimeError) as error:
        if mode == "1":
            raise RuntimeError(f"ESCNET_BUILD_EXT=1, but it can't be built: {error}") from error
        warnings.warn(f"compiled extension left out: {error}", stacklevel=2)
        return {}


def _torch_extension(sources: list[str], *, required: bool) -> dict:
    import torch
    from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

    cuda_sources = sorted(str(path) for path in (CSRC / "cuda").glob("*.cu"))
    cuda_usable = CUDA_HOME is not None and torch.version.cuda is not None

    def extension(*, with_cuda: bool) -> Extension:
        return (CUDAExtension if with_cuda else CppExtension)(
            EXTENSION_NAME,
            sources + (cuda_sources if with_cuda else []),
            include_dirs=[str(CSRC.resolve())],
            define_macros=[("WITH_CUDA", None)] if with_cuda else [],
            extra_compile_args={"cxx": ["-O3"], **({"nvcc": ["-O3"]} if with_cuda else {})},
            depends=[str(path) for path in sorted([*CSRC.rglob("*.h"), *CSRC.rglob("*.cuh")])],
        )

    class OptionalBuildExtension(BuildExtension):
        """Unless the extension was asked for, goes on without CUDA or without it when it fails."""

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

    with_cuda = bool(cuda_sources) and (cuda_usable or os.environ.get("FORCE_CUDA") == "1")
    return {
        "ext_modules": [extension(with_cuda=with_cuda)],
        "cmdclass": {"build_ext": OptionalBuildExtension},
    }


if __name__ == "__main__":
    setup(
        packages=[*find_packages(include=["escnet_d2", "escnet_d2.*"]), "escnet_d2.configs"],
        # The YAML files sit at the top of the repository and travel inside the package.
        package_dir={"escnet_d2.configs": "configs"},
        package_data={
            "escnet_d2": ["py.typed", "**/*.json", "**/*.txt"],
            "escnet_d2.configs": ["**/*.yaml"],
        },
        # Only what is named above, not every file that a build has seen.
        include_package_data=False,
        zip_safe=False,
        **extension_options(build_mode()),
    )
