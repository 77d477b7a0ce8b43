"""Finding configuration files by name and reading them with errors that help."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from detectron2.config import CfgNode

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


def merge_config_file(cfg: CfgNode, path: str) -> None:
    """Merges a YAML file and what it inherits by ``_BASE_``.

    Args:
        cfg: changed in place.
        path: an existing file.

    Raises:
        ValueError: no YAML, an unknown key (with similar ones), or a value of the wrong type; names
            the file.
    """
    try:
        cfg.merge_from_file(path)
    except KeyError as error:
        key = re.sub(r"^.*config key: ", "", str(error.args[0]))
        raise ValueError(f"{path}: {_unknown_key(cfg, key)}") from error
    except (ValueError, AssertionError, AttributeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def merge_options(cfg: CfgNode, options: Sequence[object]) -> None:
    """Merges ``KEY VALUE`` pairs, as the command line gives them.

    Args:
        cfg: changed in place.
        options: keys and values in turn; text is read as a Python literal where it is one.

    Raises:
        ValueError: an odd number of items, an unknown key (with similar ones), or a value of the
            wrong type.
    """
    if len(options) % 2:
        raise ValueError(f"Options come as KEY VALUE pairs, got {len(options)}: {[*options]}.")
    known = set(_key_names(cfg))
    for key in options[::2]:
        if key not in known and not cfg.key_is_deprecated(key):
            raise ValueError(_unknown_key(cfg, str(key)))
    cfg.merge_from_list([*options])


def _key_names(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    """Full names of all keys that hold a value."""
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from _key_names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _unknown_key(cfg: CfgNode, key: str) -> str:
    names = list(_key_names(cfg))
    by_last_part = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]]
    similar = (by_last_part + difflib.get_close_matches(key, names))[:3]
    hint = f" Did you mean {' or '.join(dict.fromkeys(similar))}?" if similar else ""
    return f"unknown configuration key {key}.{hint}"
