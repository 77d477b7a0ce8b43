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


def model_weights_path(spec: str) -> str:
    """Returns MODEL.WEIGHTS as a path: that of shipped weights by name, anything else unchanged."""
    entry = shipped_manifest().get(spec)
    return spec if entry is None else str(SHIPPED_DIR / entry["file"])
