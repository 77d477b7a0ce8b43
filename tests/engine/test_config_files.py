from pathlib import Path

from escnet_d2.engine import available_configs, config_files, find_config


def test_shipped_configs_are_found_by_name_and_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    expected = str(available_configs()["escnet_tiny"])
    assert Path(expected).is_file()
    for name in ("escnet_tiny", "escnet/escnet_tiny.yaml", "configs/escnet/escnet_tiny.yaml"):
        assert find_config(name) == expected


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
