"""Configuration files as data: what is read, what is refused, and what the refusal says."""

import os

import pytest
import yaml
from detectron2.config import CfgNode

from escnet_d2.config import ConfigFileError, ConfigNode, get_cfg, read_config


def write(folder, **files):
    """Writes YAML texts by name; returns the path of the last."""
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "tag",
    [
        '!!python/object/apply:os.system ["touch {mark}"]',
        '!!python/object/new:os.system ["touch {mark}"]',
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object/apply:eval [\"open('{mark}', 'w')\"]",
        "!mine {{a: 1}}",
    ],
)
@pytest.mark.parametrize("in_base", [False, True])
def test_code_is_refused_by_file_and_line(tmp_path, tag, in_base):
    mark = tmp_path / "mark"
    text = "SEED: 1\nA: " + tag.format(mark=mark)
    path = write(tmp_path, evil=text)
    if in_base:
        path = write(tmp_path, child="_BASE_: evil.yaml\n")
    with pytest.raises(ConfigFileError, match=r"evil\.yaml, line 2: the tag !.* is refused"):
        get_cfg().merge_from_file(path)
    # Neither does Detectron2's own switch let it pass.
    with pytest.raises(ConfigFileError):
        get_cfg().merge_from_file(path, allow_unsafe=True)
    with pytest.raises(ConfigFileError):
        ConfigNode.load_yaml_with_base(path, allow_unsafe=True)
    assert not mark.exists()


def test_tuples_are_read(tmp_path):
    path = write(tmp_path, a="INPUT:\n  MIN_SIZE_TRAIN: !!python/tuple [32, 64]\n")
    cfg = get_cfg()
    cfg.merge_from_file(path)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (32, 64)


def test_what_a_configuration_dumps_it_reads_again(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.CROP.SIZE", (32, 48), "SOLVER.STEPS", "(1, 2)", "SEED", 4])
    cfg.merge_from_list(["SOLVER.BASE_LR", "1e-3", "DATASETS.TEST", "('a', 'b')"])
    again = get_cfg()
    again.merge_from_file(write(tmp_path, dumped=cfg.dump()))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
    assert (again.SOLVER.STEPS, again.SOLVER.BASE_LR) == ((1, 2), 1e-3)
    assert (again.DATASETS.TEST, again.SEED) == (("a", "b"), 4)


def test_inherited_files(tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts", deep="SEED: 1\nSOLVER:\n  MAX_ITER: 1\n  BASE_LR: 0.5\n")
    write(tmp_path / "parts", one="_BASE_: deep.yaml\nSOLVER:\n  MAX_ITER: 2\n")
    write(tmp_path, two=f"_BASE_: {tmp_path}/parts/deep.yaml\nSOLVER:\n  MAX_ITER: 3\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path, top="_BASE_: [parts/one.yaml, ~/two.yaml]\nSOLVER:\n  BASE_LR: 0.25\n")
    expected = {"SEED": 1, "SOLVER": {"MAX_ITER": 3, "BASE_LR": 0.25}}
    assert read_config(path) == expected
    # Detectron2 reads the same.
    assert CfgNode.load_yaml_with_base(path) == expected


def test_files_of_older_versions_are_upgraded(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, old="VERSION: 1\nMODEL:\n  WEIGHT: old.pth\n"))
    assert cfg.MODEL.WEIGHTS == "old.pth"


def test_sections_of_other_programs_are_merged(tmp_path):
    cfg = get_cfg()
    cfg.MINE = CfgNode({"SECTION": CfgNode({"KEY": 1})})
    cfg.merge_from_file(write(tmp_path, mine="MINE:\n  SECTION:\n    KEY: 2\n"))
    cfg.merge_from_other_cfg(CfgNode({"SOLVER": {"MAX_ITER": 7}}))
    assert (cfg.MINE.SECTION.KEY, cfg.SOLVER.MAX_ITER) == (2, 7)
    assert isinstance(cfg.clone(), ConfigNode)


# tests/test_bad_inputs.py has more of them, and more options.
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# only a remark\n", "mine.yaml is empty"),
        ("just text\n", "mine.yaml holds a str; a configuration holds KEY: VALUE lines"),
        ("\tSEED: 1\n", "mine.yaml, line 1: "),
        ("SOLVER:\n  MAX_ITER: 1\n  MAX_ITER: 2\n", "line 3: the key MAX_ITER stands"),
        ("? [a, b]\n: 1\n", "line 1: the key .* is not text"),
        ("INPUT:\n  CROP:\n    SIZE: [.inf, 2]\n", "INPUT.CROP.SIZE must be finite"),
        ("SEED: 2020-01-01\n", "SEED"),
        ("SEED: 2020-13-41\n", "mine.yaml: month must be in 1..12"),
        ("VERSION: new\n", "mine.yaml"),
        ("_BASE_: .\n", r"mine.yaml: its _BASE_ \. is not a file"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    path = write(tmp_path, mine=text)
    with pytest.raises(ConfigFileError, match=message) as error:
        get_cfg().merge_from_file(path)
    assert "mine.yaml" in str(error.value)
    # Once: the file that is read and the one that is at fault are the same.
    assert str(error.value).count(path) <= 1


def test_a_base_that_cannot_be_used_is_named(tmp_path):
    write(tmp_path, base="SOLVER: 3\n")
    with pytest.raises(ConfigFileError, match=r"top\.yaml: SOLVER is a section here, but a value"):
        read_config(write(tmp_path, top="_BASE_: base.yaml\nSOLVER:\n  MAX_ITER: 1\n"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path):
    path = write(tmp_path, secret="SEED: 1\n")
    os.chmod(path, 0)
    with pytest.raises(ConfigFileError, match="cannot be read: Permission denied"):
        read_config(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["CLIP_MULTIPLIER", "1"], r"Did you mean SOLVER\.CLIP_MULTIPLIER"),
        (["MODEL.CLIP", "x"], r"unknown configuration key MODEL\.CLIP\."),
        (["SOLVER.MAX_ITER", "many"], "takes .* int, like .*; got many, which is str"),
        (["SOLVER.BASE_LR", "None"], "SOLVER.BASE_LR has no value"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        get_cfg().merge_from_list(options)
