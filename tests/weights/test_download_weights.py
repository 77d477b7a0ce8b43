from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

import pytest
import torch

from escnet_d2.weights import WeightsError, WeightsFile

CONTENT = b"PK\x03\x04 weights"
TOOL = Path(__file__).resolve().parents[2] / "tools" / "download_weights.py"


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The program, with two small files in its catalogue and no network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ESCNET_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    specification = importlib.util.spec_from_file_location("download_weights", TOOL)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    def sources_of(name):
        if name not in module.DEFAULT_NAMES:
            raise WeightsError(f"No weights are called {name!r}")
        content = CONTENT + name.encode()
        url = f"http://127.0.0.1:9/{name}.pt"
        digest = hashlib.sha256(content).hexdigest()
        return (WeightsFile(name, f"{name}.pt", (url,), digest, len(content)),)

    monkeypatch.setattr(module, "DEFAULT_NAMES", ("first", "second"))
    monkeypatch.setattr(module, "sources_of", sources_of)
    return module


def provide(tmp_path, name):
    path = tmp_path / "home" / ".cache" / "clip" / f"{name}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT + name.encode())


def test_everything_goes_into_the_chosen_folder(tool, tmp_path, capsys):
    provide(tmp_path, "first")
    provide(tmp_path, "second")
    assert tool.main(["--cache", str(tmp_path / "chosen")]) == 0
    paths = {name: tmp_path / "chosen" / f"{name}.pt" for name in ("first", "second")}
    assert capsys.readouterr().out == "".join(f"{name}: {paths[name]}\n" for name in paths)
    for name, path in paths.items():
        assert path.read_bytes() == CONTENT + name.encode()
    assert not (tmp_path / "cache").exists()


def test_one_failure_does_not_stop_the_others(tool, tmp_path, capsys):
    provide(tmp_path, "second")
    assert tool.main([]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["first: failed", f"second: {tmp_path}/cache/second.pt"]
    assert "first.pt" in captured.err
    assert "second" not in captured.err


def test_only_what_is_named_is_fetched(tool, tmp_path):
    provide(tmp_path, "second")
    assert tool.main(["second"]) == 0
    assert not list((tmp_path / "cache").glob("first*"))


def test_unknown_names_are_a_wrong_command_line(tool, capsys):
    with pytest.raises(SystemExit) as caught:
        tool.main(["third"])
    assert caught.value.code == 2
    assert "'third'" in capsys.readouterr().err


def test_verify_hashes_again_and_fetches_nothing(tool, tmp_path, capsys):
    provide(tmp_path, "first")
    assert tool.main(["--verify", "first"]) == 1
    assert "missing or damaged" in capsys.readouterr().err
    assert tool.main(["first"]) == 0
    assert tool.main(["--verify", "first"]) == 0

    path = tmp_path / "cache" / "first.pt"
    times = path.stat()
    path.write_bytes(b"x" * times.st_size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert tool.main(["--verify", "first"]) == 1


def test_the_list_shows_what_is_known_and_what_is_here(tool, tmp_path, capsys):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "own.pt").write_bytes(b"1")
    assert tool.main(["--list"]) == 0
    output = capsys.readouterr().out
    assert "http://127.0.0.1:9/first.pt" in output
    assert str(tmp_path / "cache" / "own.pt") in output
