"""Every key that this package adds to Detectron2's is read somewhere."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.projects.deeplab import build_lr_scheduler

from escnet_d2 import get_cfg
from escnet_d2.config import DEPRECATED_KEYS, key_values

PACKAGE = Path(__file__).resolve().parents[2] / "escnet_d2"


ADDED = sorted(dict(key_values(get_cfg())).keys() - dict(key_values(get_detectron2_cfg())).keys())


@pytest.fixture(scope="module")
def names_read():
    """Names of attributes and index strings, file by file; comments and docstrings don't count."""
    return [
        names_in(path.read_text(encoding="utf-8"))
        for path in (*PACKAGE.rglob("*.py"), Path(inspect.getfile(build_lr_scheduler)))
        if path.parent != PACKAGE / "config" or path.name == "methods.py"
    ]


def names_in(source: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(source)))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    # Of `node[key]` for key in a list or dict of names.
    strings = {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isupper()
    }
    return attributes | strings


def test_the_package_adds_keys():
    assert {"MODEL.ESCNET.ALPHA", "TEST.LABEL_MAP_ONLY", "VOCABULARY.SYNONYMS"} <= set(ADDED)


@pytest.mark.parametrize("key", ADDED)
def test_key_is_read(key, names_read):
    # The last two parts in one file: modules hold the node, `node = cfg.MODEL.CLIP`.
    parts = set(key.split(".")[-2:])
    assert any(parts <= names for names in names_read), f"nothing in escnet_d2/ reads {key}"


@pytest.mark.parametrize("key", DEPRECATED_KEYS)
def test_deprecated_key_is_accepted_and_ignored(key):
    cfg, node, path = get_cfg(), CfgNode({"VALUE": 1}), key.split(".")
    for part in reversed(path):
        node = CfgNode({part: node})
    cfg.merge_from_other_cfg(node)
    cfg.merge_from_list([key, "anything"])
    assert cfg == get_cfg()


def test_no_key_of_detectron2_is_lost():
    assert dict(key_values(get_detectron2_cfg())).keys() <= dict(key_values(get_cfg())).keys()


def test_each_call_gives_a_node_of_its_own():
    cfg = get_cfg()
    cfg.MODEL.ESCNET.PROMPTS.append("box")
    cfg.VOCABULARY.BACKGROUND_WORDS.clear()
    fresh = get_cfg()
    assert fresh.MODEL.ESCNET.PROMPTS == ["point"]
    assert fresh.VOCABULARY.BACKGROUND_WORDS
