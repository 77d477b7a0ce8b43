"""A configuration whose files are read as data, and whose errors name the file and the key."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode

_BASE_KEY = "_BASE_"
# What yacs says of a value of another type than the default's.
_TYPE_MISMATCH = re.compile(
    r"Type mismatch \(<class '(.+?)'> vs\. <class '(.+?)'>\) with values \((.*) vs\. (.*)\) "
    r"for config key: (.*)",
    re.DOTALL,
)


class ConfigFileError(ValueError):
    """A configuration file cannot be used; the message names it."""


class ConfigNode(CfgNode):
    """Detectron2's configuration node without code in YAML files and with checked values.

    Detectron2 loads files with ``yaml.unsafe_load``, so that a configuration may run any program.
    """

    # Only the root is of this class: yacs merges sections of equal type, and programs written for
    # Detectron2 add sections of its own class.
    @classmethod
    def _create_config_tree_from_dict(cls, dic: dict, key_list: list[str]) -> dict:
        return CfgNode._create_config_tree_from_dict(dic, key_list)

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:
        return CfgNode._decode_cfg_value(value)

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """See :func:`read_config`; ``allow_unsafe`` is Detectron2's and has no effect."""
        return read_config(filename)

    def merge_from_file(self, cfg_filename: str | os.PathLike, allow_unsafe: bool = False) -> None:
        """Merges a YAML file and what it inherits by ``_BASE_``.

        Args:
            cfg_filename: an existing file.
            allow_unsafe: Detectron2's argument, without effect: files are always read as data.

        Raises:
            ConfigFileError: a file cannot be read, holds code, an unknown key (similar ones are
                named) or a value that the key does not take.
        """
        path, before = os.fspath(cfg_filename), dict(key_values(self))
        try:
            super().merge_from_file(path)
            _check_values(before, self)
        except ConfigFileError:
            raise
        except KeyError as error:
            key = re.sub(r"^.*config key: ", "", str(error.args[0]))
            raise ConfigFileError(f"{path}: {_unknown_key(before, key)}") from error
        except (ValueError, AssertionError, AttributeError, TypeError) as error:
            raise ConfigFileError(f"{path}: {_plain(error)}") from error

    def merge_from_list(self, cfg_list: Sequence[object]) -> None:
        """Merges ``KEY VALUE`` pairs, as the command line gives them.

        Args:
            cfg_list: keys and values in turn; text is read as a Python literal where it is one.

        Raises:
            ValueError: an odd number of items, an unknown key (similar ones are named), or a value
                that the key does not take.
        """
        if len(cfg_list) % 2:
            raise ValueError(f"Options come as KEY VALUE pairs, got {len(cfg_list)}: {cfg_list}.")
        before = dict(key_values(self))
        for key in cfg_list[::2]:
            if key not in before and not self.key_is_deprecated(key):
                raise ValueError(_unknown_key(before, str(key)))
        try:
            super().merge_from_list([*cfg_list])
        except ValueError as error:
            raise ValueError(_plain(error)) from error
        _check_values(before, self)


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a YAML file and what it inherits by ``_BASE_``, without running code from it.

    Args:
        path: a local file. ``_BASE_`` is one path or a list, relative to the file that names it.

    Returns:
        Nested dicts of plain values.

    Raises:
        ConfigFileError: a file is missing, unreadable, not a mapping, or inherits itself; a key
            stands twice; a tag is not one of YAML's own or ``!!python/tuple``. Names file and line.
    """
    return _read_with_base(os.fspath(path), ())


def key_values(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the full name, such as ``MODEL.CLIP.NAME``, and the value of every key."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from key_values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_with_base(path: str, included_from: tuple[str, ...]) -> dict[str, Any]:
    content = _read_file(path)
    bases = content.pop(_BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigFileError(f"{path}: {_BASE_KEY} must be a path or a list of paths.")
    merged: dict[str, Any] = {}
    chain = (*included_from, os.path.realpath(path))
    for base in bases:
        file = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        if not os.path.isfile(file):
            raise ConfigFileError(f"{path}: its {_BASE_KEY} {base} is not a file ({file}).")
        if os.path.realpath(file) in chain:
            raise ConfigFileError(f"{path}: its {_BASE_KEY} {base} inherits it in turn.")
        _merge(_read_with_base(file, chain), merged, path)
    _merge(content, merged, path)
    return merged


def _merge(content: dict[str, Any], into: dict[str, Any], path: str) -> None:
    for key, value in content.items():
        if isinstance(value, dict) and key in into:
            if not isinstance(into[key], dict):
                raise ConfigFileError(
                    f"{path}: {key} is a section here, but a value in {_BASE_KEY}."
                )
            _merge(value, into[key], path)
        else:
            into[key] = value


def _read_file(path: str) -> dict[str, Any]:
    try:
        with ConfigNode._open_cfg(path) as file:
            content = yaml.load(file, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigFileError(f"{path}{line}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigFileError(f"{path} is not a YAML text file.") from error
    except OSError as error:
        raise ConfigFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        # Such as a date that no calendar has.
        raise ConfigFileError(f"{path}: {error}") from error
    if content is None:
        raise ConfigFileError(f"{path} is empty.")
    if not isinstance(content, dict):
        raise ConfigFileError(
            f"{path} holds a {type(content).__name__}; a configuration holds KEY: VALUE lines."
        )
    return content


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML's own types and tuples; every key is text and stands once."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            problem = None
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                problem = f"the key {getattr(key, 'value', '')!r} is not text"
            elif key.value in seen:
                problem = f"the key {key.value} stands here a second time"
            if problem:
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return node

    def construct_tuple(self, node: yaml.Node) -> tuple[Any, ...]:
        return tuple(self.construct_sequence(node, deep=True))

    def refuse_tag(self, node: yaml.Node) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        problem = f"the tag {tag} is refused, since it may run code: write the plain value"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", _PlainLoader.construct_tuple)
_PlainLoader.add_constructor(None, _PlainLoader.refuse_tag)


def _check_values(before: Mapping[str, Any], node: CfgNode) -> None:
    """Refuses what yacs lets pass: keys that lost their value, infinite numbers and NaN."""
    for key, value in key_values(node):
        if value is None and before.get(key) is not None:
            raise ValueError(f"{key} has no value.")
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, float) and not math.isfinite(part):
                raise ValueError(f"{key} must be finite, got {value}.")


def _plain(error: Exception) -> str:
    found = _TYPE_MISMATCH.search(str(error))
    if found is None:
        return str(error)
    expected, given, default, value, key = found.groups()
    if expected.endswith("CfgNode"):
        return f"{key} is a section, with keys of its own; got {value}, which is {given}."
    return f"{key} takes values of type {expected}, like {default}; got {value}, which is {given}."


def _unknown_key(known: Mapping[str, Any], key: str) -> str:
    last = key.rpartition(".")[2]
    by_last_part = [name for name in known if name.rpartition(".")[2] == last]
    sections = {name.rpartition(".")[0] for name in known} - {""}
    similar = (by_last_part + difflib.get_close_matches(key, [*known, *sorted(sections)]))[:3]
    hint = f" Did you mean {' or '.join(dict.fromkeys(similar))}?" if similar else ""
    return f"unknown configuration key {key}.{hint}"
