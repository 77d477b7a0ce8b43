"""Weights that come with the package: small models of the data set ``shapes``, for CPU.

``shipped/manifest.json`` says of each file how it was made and what was measured of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SHIPPED_DIR = Path(__file__).parent / "shipped"
MANIFEST = "manifest.json"


def shipped_manifest() -> dict[str, dict[str, Any]]:
    """Reads the manifest: ``file``, ``sha256``, ``bytes``, ``config``, ``metrics``... by name."""
    path = SHIPPED_DIR / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def shipped_file(spec: str) -> Path | None:
    """Returns the file of shipped weights; None for others."""
    entry = shipped_manifest().get(spec)
    return None if entry is None else SHIPPED_DIR / entry["file"]


def shipped_config(spec: str) -> str | None:
    """Returns the name of the configuration of shipped weights; None for others."""
    entry = shipped_manifest().get(spec)
    return None if entry is None else entry["config"]
