from pathlib import Path

import pytest

from escnet_d2.config import get_cfg
from escnet_d2.engine import (
    available_configs,
    config_files,
    find_config,
    merge_config_file,
    merge_options,
)


def test_shipped_configs_are_found_by_name_and_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    expected = str(available_configs()["escnet_tiny"])
    assert Path(expected).is_file()
    for name in ("escnet_tiny", "escnet/escnet_tiny.yaml", "configs/escnet/escnet_tiny.yaml"):
        assert find_config(name) == expected


def test_parts_that_others_inherit_are_not_offered():
    assert not any("_base_" in str(path) for path in available_configs().values())


def test_own_file_wins(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("escnet_tiny").write_text("SEED: 1\n")
    assert find_config("escnet_tiny") == "escnet_tiny"
    assert find_config(tmp_path / "escnet_tiny") == str(tmp_path / "escnet_tiny")


def test_configs_inside_an_installed_package(monkeypatch, tmp_path):
    inside = tmp_path / "package" / "configs"
    (inside / "escnet").mkdir(parents=True)
    (inside / "escnet" / "small.yaml").write_text("SEED: 1\n")
    monkeypatch.setattr(config_files, "CONFIG_FOLDERS", (inside, tmp_path / "configs"))
    assert find_config("small") == str(inside / "escnet" / "small.yaml")


@pytest.mark.parametrize("name", ["escnet_tinny", "missing.yaml", "/no/such/file.yaml", ""])
def test_unknown_config_lists_the_shipped_ones(name):
    with pytest.raises(FileNotFoundError, match="Shipped: .*escnet_tiny") as error:
        find_config(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL:\n  CLIPP:\n    NAME: a\n", r"unknown configuration key MODEL\.CLIPP"),
        ("SOLVER:\n  BASE_RL: 1.0\n", r"SOLVER\.BASE_RL\. Did you mean SOLVER\.BASE_LR"),
        ("SOLVER:\n  BASE_LR: fast\n", r"SOLVER\.BASE_LR"),
        ("SOLVER: 3\n", "SOLVER"),
        ("SOLVER: [1, 2\n", "expected"),
        ("just text\n", "mine.yaml: "),
    ],
    ids=["section", "typing error", "type", "value for a section", "YAML", "no mapping"],
)
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        merge_config_file(get_cfg(), str(path))
    assert "mine.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.BASE_LR"], "KEY VALUE pairs, got 1"),
        (["SOLVER.LR", "1"], r"unknown configuration key SOLVER\.LR\."),
        (["CLIP_MULTIPLIER", "1"], r"Did you mean SOLVER\.CLIP_MULTIPLIER"),
        (["MODEL.CLIP", "x"], r"unknown configuration key MODEL\.CLIP\."),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        merge_options(get_cfg(), options)


def test_options_are_read_as_literals():
    cfg = get_cfg()
    merge_options(cfg, ["SOLVER.BASE_LR", "1e-3", "DATASETS.TEST", "('a', 'b')", "SEED", 4])
    assert (cfg.SOLVER.BASE_LR, cfg.DATASETS.TEST, cfg.SEED) == (1e-3, ("a", "b"), 4)
