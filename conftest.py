"""Shared by all tests: a seed, one thread, a clean state after each, and programs to run."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

import escnet_d2  # noqa: F401 - registers data sets that are to stay

REPO = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # Two processes and their threads on two cores are slower than one thread each.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _loggers():
    yield
    reset_loggers()


def reset_loggers():
    """Undoes what a run's logger set-up leaves behind: caplog sees only what propagates."""
    for name in ("escnet_d2", "detectron2", "fvcore"):
        logger = logging.getLogger(name)
        logger.propagate = True
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
    if "detectron2.utils.logger" in sys.modules:
        # Detectron2 sets each logger up once per process.
        sys.modules["detectron2.utils.logger"].setup_logger.cache_clear()


@pytest.fixture(autouse=True)
def _catalogs():
    """Forgets the data sets that a test has registered."""
    before = [(catalog, set(catalog)) for catalog in (DatasetCatalog, MetadataCatalog)]
    yield
    for catalog, names in before:
        for name in set(catalog) - names:
            catalog.remove(name)


@pytest.fixture(scope="session")
def load_program():
    """Returns a function that imports a program by its path in the repository."""

    def load(path):
        spec = importlib.util.spec_from_file_location(f"program_{Path(path).stem}", REPO / path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def run_program():
    """Returns a function that runs ``escnet-d2``, or a program by its path, without a GPU."""

    def run(path, *arguments, cwd=None):
        """In this process, since to import torch takes longer than most runs."""
        code, out, err = 0, io.StringIO(), io.StringIO()
        command = [str(REPO / path), *map(str, arguments)]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (("argv", command), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, value)
            patch.syspath_prepend((REPO / path).parent)
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
            # Pytest's own would keep the program from setting up its.
            patch.setattr(logging.root, "handlers", [])
            if cwd:
                patch.chdir(cwd)
            try:
                if path == "escnet-d2":
                    runpy.run_module("escnet_d2", run_name="__main__")
                else:
                    runpy.run_path(command[0], run_name="__main__")
            except SystemExit as stop:
                code = stop.code or 0
            reset_loggers()
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def start_program():
    """Returns a function that runs ``escnet-d2``, or a program by its path, in a new process."""

    def start(path, *arguments, launcher=(), **options):
        program = ("-m", "escnet_d2") if path == "escnet-d2" else (str(REPO / path),)
        return subprocess.run(
            [sys.executable, *launcher, *program, *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True, text=True, timeout=300, **options,
        )  # fmt: skip

    return start
