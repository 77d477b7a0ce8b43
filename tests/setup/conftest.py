"""Loads the set-up's own files, which belong to no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path, monkeypatch):
    """Imports a file that belongs to no package."""
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installer(monkeypatch):
    return load(ROOT / "tools" / "install_detectron2.py", monkeypatch)


@pytest.fixture
def check(monkeypatch):
    return load(ROOT / "tools" / "check_cuda_build.py", monkeypatch)


@pytest.fixture
def setup_py(monkeypatch):
    monkeypatch.chdir(ROOT)
    return load(ROOT / "setup.py", monkeypatch)
