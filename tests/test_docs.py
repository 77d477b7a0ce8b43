"""The documents name files, keys, configurations and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from detectron2.config import CfgNode

from escnet_d2 import get_cfg
from escnet_d2.commands import COMMANDS
from escnet_d2.config import DEPRECATED_KEYS
from escnet_d2.engine.config_files import available_configs, find_config

REPO = Path(__file__).resolve().parents[1]
DOCS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "[bd]*/README.md", "projects/**/README.md")
    for path in REPO.glob(pattern)
)
CODE = sorted(
    path
    for folder in ("escnet_d2", "configs", "tools", "demo", "projects", "benchmarks")
    for path in (REPO / folder).rglob("*")
    if path.suffix in (".py", ".yaml", ".sbatch") and "tests" not in path.parts[len(REPO.parts) :]
)
NODES = ("MODEL", "INPUT", "DATASETS", "DATALOADER", "SOLVER", "TEST", "VOCABULARY")
KEY = re.compile(rf"\b(?:{'|'.join(NODES)})(?:\.[A-Z][A-Z0-9_]*)+")
# Folders of which every path in backticks must exist; below datasets/ stands the users' own data.
FOLDERS = (
    *("escnet_d2", "configs", "demo", "docs", "tests", "tools", "projects", "benchmarks"),
    *(".ci", ".github"),
)
# Of a text that stands for a configuration of the reader.
PLACEHOLDERS = ("NAME", "FILE", "NAME_OR_FILE", "my_photos.yaml")


def relative(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(path: Path, language: str) -> list[str]:
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.DOTALL | re.M
    )
    return [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, body in found]


def anchors(path: Path) -> set[str]:
    """Returns the anchors that GitHub gives the headings."""
    text = without_blocks(path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def has_key(cfg: CfgNode, key: str) -> bool:
    node = cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            return False
        node = node[part]
    return True


def each_doc(function):
    return pytest.mark.parametrize("path", DOCS, ids=relative)(function)


@each_doc
def test_links_lead_somewhere(path):
    text = without_blocks(path.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@each_doc
def test_paths_exist(path):
    text = without_blocks(path.read_text(encoding="utf-8"))
    for name in re.findall(r"`([\w./-]+)`", text):
        first, *rest = name.split("/")
        is_ours = (rest and first in FOLDERS) or (not rest and name in ("setup.py", "train_net.py"))
        if is_ours:
            assert (REPO / name).exists(), f"`{name}` does not exist"


@each_doc
def test_programs_exist(path):
    text = path.read_text(encoding="utf-8")
    for script in re.findall(r"\b(?:python|sbatch(?: --nodes \d+)?) ([\w/]+\.\w+)\b", text):
        assert (REPO / script).is_file(), f"python {script}: no such program"
    assert {*re.findall(r"\bescnet-d2 ([a-z]+)", text)} <= {*COMMANDS}


@pytest.mark.parametrize("path", [*DOCS, *CODE], ids=relative)
def test_keys_exist(path):
    cfg = get_cfg()
    named = set(KEY.findall(path.read_text(encoding="utf-8"))) - set(DEPRECATED_KEYS)
    stale = {key for key in named if not has_key(cfg, key)}
    assert not stale, f"no such configuration keys: {', '.join(sorted(stale))}"


@pytest.mark.parametrize("path", [*DOCS, *CODE], ids=relative)
def test_configuration_names_exist(path):
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(escnet_(?:tiny|demo|vit)\w*)(?:\.yaml)?", text))
    assert named <= set(available_configs())


@each_doc
def test_config_files_of_commands_are_found(path):
    for name in re.findall(r"--config-file ([\w./-]+)", path.read_text(encoding="utf-8")):
        if name not in PLACEHOLDERS:
            assert Path(find_config(name)).is_file()


@each_doc
def test_yaml_blocks_are_configurations(path):
    for block in blocks(path, "yaml"):
        content = yaml.safe_load(block)
        base = content.pop("_BASE_", None)
        assert base is None or (REPO / base).is_file()
        get_cfg().merge_from_other_cfg(CfgNode(content))


@each_doc
def test_python_blocks_compile(path):
    for block in blocks(path, "python"):
        compile(block, relative(path), "exec")


def test_readme_is_one_screen():
    assert len((REPO / "README.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_published_numbers_agree():
    rows = re.findall(
        r"^\| CLIP .*$", (REPO / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) == 2
    for row in rows:
        name = re.search(r"`(\w+)`", row).group(1)
        config = Path(find_config(name)).read_text(encoding="utf-8")
        header = re.sub(r"\n# ?", " ", config[: config.index("_BASE_")])
        numbers = re.findall(r"\d+\.\d", row)
        assert len(numbers) == 6
        assert re.findall(r"(?<= )\d\d\.\d(?=[, ])", header) == numbers
