from __future__ import annotations

import functools
import hashlib

import pytest

from escnet_d2.weights.fetch import ReleasedFile

CONTENT = b"PK\x03\x04 weights"


@pytest.fixture
def tool(load_program, server, monkeypatch):
    """The program, with two small files that the server has."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    files = {
        name: ReleasedFile(name, f"{server.address}/{name}.pt", sha256=sha256)
        for name in ("first", "second")
    }
    server.files = {f"{name}.pt": CONTENT for name in files}

    monkeypatch.setattr("escnet_d2.weights.RELEASED_NAMES", tuple(files))
    monkeypatch.setattr("escnet_d2.weights.released_file", files.get)
    monkeypatch.setattr(
        "escnet_d2.weights.find_released", lambda: {n: f.find() for n, f in files.items()}
    )
    return load_program("tools/download_weights.py")


def test_everything_is_fetched_and_one_failure_does_not_stop_the_others(
    tool, server, tmp_path, capsys
):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    body = server.files.pop("first.pt")
    assert tool.main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"second: {folder}/second.pt\n"
    assert "first.pt" in captured.err
    assert "second" not in captured.err
    server.files["first.pt"] = body
    assert tool.main([]) == 0
    assert capsys.readouterr().out == f"first: {folder}/first.pt\nsecond: {folder}/second.pt\n"
    assert (folder / "second.pt").read_bytes() == CONTENT


def test_verify_hashes_and_fetches_nothing(tool, server, tmp_path, capsys):
    assert tool.main(["--verify", "first"]) == 1
    assert f"first is not here: no file at {tmp_path}/torch" in capsys.readouterr().err
    assert server.requests == []
    tool.main(["first"])
    assert server.requests == [("GET", "first.pt")]
    assert tool.main(["--verify", "first"]) == 0
    path = tmp_path / "torch" / "hub" / "checkpoints" / "first.pt"
    path.write_bytes(b"x" * len(CONTENT))
    assert tool.main(["--verify", "first"]) == 1
    captured = capsys.readouterr()
    assert f"{path} is damaged" in captured.err
    assert captured.out == f"first: {path}\n" * 2, "of the two calls before"


def test_the_list_shows_what_is_known_and_what_is_here(tool, server, tmp_path, capsys):
    tool.main(["first"])
    capsys.readouterr()
    assert tool.main(["--list"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"first: {tmp_path}/torch/hub/checkpoints/first.pt (http://127.0.0.1")
    assert second.startswith("second: not here (http://127.0.0.1")


@pytest.mark.slow
def test_a_folder_to_copy_holds_both_caches(tmp_path, monkeypatch, start_program):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    run = functools.partial(
        start_program, "tools/download_weights.py", "--cache", "folder", cwd=tmp_path
    )
    failed = run()
    assert failed.returncode == 1
    assert f"{tmp_path}/folder/torch/hub/checkpoints/sam_vit_b_01ec64.pth" in failed.stderr
    assert f"{tmp_path}/folder/huggingface/hub/models--timm--vit_base_patch16" in failed.stderr
    sam = tmp_path / "folder" / "torch" / "hub" / "checkpoints" / "sam_vit_b_01ec64.pth"
    sam.parent.mkdir(parents=True)
    sam.write_bytes(CONTENT)
    done = run("sam_vit_b")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2:] == [
        f"export HF_HOME={tmp_path}/folder/huggingface",
        f"export TORCH_HOME={tmp_path}/folder/torch",
        "export HF_HUB_OFFLINE=1",
    ]
