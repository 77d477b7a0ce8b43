"""Imports between rooms: every arrow points to the left in docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "escnet_d2"

ALLOWED = {
    "structures": set(),
    "io": set(),
    "weights": set(),
    "config": {"structures"},
    "solver": {"structures"},
    "outputs": {"structures", "io"},
    "layers": {"structures"},
    "data": {"structures", "io", "config"},
    "evaluation": {"structures", "io"},
    "modeling": {"structures", "layers", "weights", "config"},
}
ALLOWED["engine"] = set(ALLOWED)
ALLOWED["web"] = set(ALLOWED)
ALLOWED["projects"] = set(ALLOWED) - {"web"}
ALLOWED["commands"] = {*ALLOWED, "the whole package"}
# States the version and imports nothing, so everyone may read it.
ALLOWED_FOR_ALL = {"version"}


def faults(path: Path, root: Path) -> Iterator[str]:
    """Imports of one file that the rules forbid, described; rooms are folders of ``root``."""
    room, *inside = path.relative_to(root).parts
    # How many leading dots of a relative import still end inside the room.
    depth = len(inside)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            if node.level > depth:
                yield f"line {node.lineno}: a relative import leaves {room}/"
            continue
        if isinstance(node, ast.ImportFrom):
            # `from escnet_d2 import data` names the room behind the import.
            module = node.module
            names = [f"{module}.{alias.name}" for alias in node.names]
            names = names if module == PACKAGE.name else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            top, *rest = name.split(".")
            if top != PACKAGE.name:
                continue
            target = rest[0] if rest else "the whole package"
            if target != room and target not in ALLOWED[room] | ALLOWED_FOR_ALL:
                yield f"line {node.lineno}: {room} must not import {target}"


FILES = sorted(PACKAGE.glob("*/**/*.py"))
# The packages of projects, which are imported as escnet_d2.projects.NAME.
PROJECT_FILES = sorted(REPO.glob("projects/*/*/**/*.py"))


@pytest.mark.parametrize(
    ("path", "root"),
    [*((path, PACKAGE) for path in FILES), *((path, REPO) for path in PROJECT_FILES)],
    ids=[str(path.relative_to(REPO)) for path in (*FILES, *PROJECT_FILES)],
)
def test_rooms_import_only_what_they_may(path, root):
    found = list(faults(path, root))
    assert not found, "\n".join([str(path), *found])


def test_every_room_has_a_rule():
    rooms = {path.relative_to(PACKAGE).parts[0] for path in FILES}
    assert rooms == set(ALLOWED)


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("data/a.py", "from escnet_d2.structures import Vocabulary", None),
        ("data/a.py", "from .b import c", None),
        ("data/sub/a.py", "from ..b import c", None),
        ("engine/a.py", "from escnet_d2.data import mapper", None),
        ("data/a.py", "from escnet_d2.modeling import x", "must not import modeling"),
        ("data/a.py", "import escnet_d2.modeling.clip as clip", "must not import modeling"),
        ("data/a.py", "from escnet_d2 import modeling", "must not import modeling"),
        ("data/a.py", "def f():\n    from escnet_d2.engine import x", "must not import engine"),
        ("projects/shapes/a.py", "from escnet_d2.engine import x", None),
        ("data/a.py", "from ..structures import x", "leaves data/"),
        ("data/sub/a.py", "from ...structures import x", "leaves data/"),
    ],
)
def test_the_check_itself(tmp_path, file, source, expected):
    path = tmp_path / "escnet_d2" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    found = list(faults(path, tmp_path / "escnet_d2"))
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1
        assert expected in found[0]


def test_importing_the_package_loads_only_what_registers():
    # Detectron2 finds models and data sets by name; the rest loads when it is asked for.
    program = (
        "import sys, escnet_d2\n"
        "names = [name.split('.') for name in sys.modules]\n"
        "print(*{name[1] for name in names if name[0] == 'escnet_d2' and len(name) > 1})"
    )
    command = [sys.executable, "-c", program]
    loaded = set(subprocess.check_output(command, cwd=REPO, text=True).split())
    assert {"data", "modeling", "projects"} <= loaded
    rooms = {"data", "modeling", "projects"} | ALLOWED["data"] | ALLOWED["modeling"]
    assert loaded <= rooms | ALLOWED_FOR_ALL
