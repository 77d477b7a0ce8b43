"""Weights that come with the package: small models of the data set ``shapes``, for CPU.

``shipped/manifest.json`` says of each file how it was made and what was measured of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .checksum import sha256_of
from .errors import WeightsError

SHIPPED_DIR = Path(__file__).parent / "shipped"
MANIFEST = "manifest.json"


def shipped_manifest() -> dict[str, dict[str, Any]]:
    """What is known of each shipped file.

    Returns:
        By name: ``file``, ``sha256``, ``bytes``, ``config``, ``command``, ``date``, ``device`` and
        ``metrics``.
    """
    path = SHIPPED_DIR / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def find_shipped(name: str) -> Path | None:
    """The file of shipped weights, verified.

    Args:
        name: such as "escnet_tiny_shapes".

    Returns:
        Its path, or None when no shipped weights have this name.

    Raises:
        WeightsError: the file is missing, or its SHA-256 is not that of the manifest.
    """
    entry = shipped_manifest().get(name)
    if entry is None:
        return None
    path = SHIPPED_DIR / entry["file"]
    if not path.is_file():
        raise WeightsError(
            f"The shipped weights {path} are missing: check out or install the package again."
        )
    if sha256_of(path) != entry["sha256"]:
        raise WeightsError(
            f"The shipped weights {path} are damaged, their SHA-256 is not {entry['sha256']}: "
            "check out or install the package again."
        )
    return path


def model_weights_path(spec: str) -> str:
    """What MODEL.WEIGHTS names, as a path: shipped weights by name, anything else unchanged.

    Raises:
        WeightsError: as :func:`find_shipped`.
    """
    found = find_shipped(spec)
    return spec if found is None else str(found)
