"""Finding configuration files by name."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# Installed packages carry the files inside; a checkout has them beside the package.
CONFIG_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


# Folders of parts: what configurations inherit, and what is laid over them.
_PARTS = {"_base_", "eval"}


def available_configs() -> dict[str, Path]:
    """Shipped configurations by name, such as ``escnet_tiny``; parts of others are left out."""
    found: dict[str, Path] = {}
    for folder in CONFIG_FOLDERS:
        for path in sorted(folder.rglob("*.yaml")):
            if _PARTS.isdisjoint(path.relative_to(folder).parts):
                found.setdefault(path.stem, path)
    return found


def find_config(name_or_path: str | os.PathLike) -> str:
    """Finds a configuration file.

    Args:
        name_or_path: a path, the name of a shipped configuration (``escnet_tiny``), or a path below
            the shipped ``configs`` folder (``escnet/escnet_tiny.yaml``).

    Returns:
        The path of an existing file.

    Raises:
        FileNotFoundError: there is none; the message lists the names.
    """
    text = os.fspath(name_or_path)
    path = Path(text).expanduser()
    if path.is_file():
        return str(path)
    for folder in CONFIG_FOLDERS:
        # "configs/escnet/escnet_tiny.yaml" works from any folder, too.
        for candidate in (folder / text, folder.parent / text):
            if path.suffix and not path.is_absolute() and candidate.is_file():
                return str(candidate)
    shipped = available_configs()
    if text in shipped:
        return str(shipped[text])
    raise FileNotFoundError(
        f"There is no config file {text!r}, and no shipped configuration of that name. "
        f"Shipped: {', '.join(sorted(shipped))}."
    )
