"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import stat

import pytest

from escnet_d2.io import atomic_path, write_json, write_text


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="stop"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_files_get_the_permissions_of_the_umask(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "atomic", "")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


def test_json_keeps_every_name_and_refuses_nan(tmp_path):
    names = ["café", "猫", "\udce9"]
    write_json(tmp_path / "a.json", names)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == names
    assert "猫" in (tmp_path / "a.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()
