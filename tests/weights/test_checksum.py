from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest

from escnet_d2.weights.checksum import is_sha256, matches, recorded_sha256, stamp_path


@pytest.fixture
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("ESCNET_CACHE", str(folder))
    return folder


def rewrite_unnoticed(path, content):
    """Replaces the content, but neither size nor modification time."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_is_read_once_until_it_changes(cache):
    path = cache / "a.pt"
    path.write_bytes(b"first")
    first, other = (hashlib.sha256(text).hexdigest() for text in (b"first", b"other"))
    assert recorded_sha256(path) == first

    rewrite_unnoticed(path, b"other")
    assert recorded_sha256(path) == first
    assert recorded_sha256(path, rehash=True) == other
    assert recorded_sha256(path) == other

    path.write_bytes(b"first")
    os.utime(path, ns=(1, 1))
    assert recorded_sha256(path) == first


@pytest.mark.parametrize("content", ["", "nonsense", "a\nb\nc", "# size=5 mtime_ns=1\nzz  a.pt\n"])
def test_a_broken_stamp_is_ignored(cache, content):
    path = cache / "a.pt"
    path.write_bytes(b"first")
    os.utime(path, ns=(1, 1))
    stamp_path(path).write_text(content)
    assert recorded_sha256(path) == hashlib.sha256(b"first").hexdigest()


def test_other_programs_folders_get_no_stamps(cache, tmp_path):
    paths = [tmp_path / folder / "a.pt" for folder in ("clip", "hub")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode())
        recorded_sha256(path)
        assert os.listdir(path.parent) == ["a.pt"]
        assert cache in stamp_path(path).parents
    assert stamp_path(paths[0]) != stamp_path(paths[1])
    rewrite_unnoticed(paths[0], b"xxxx")
    assert recorded_sha256(paths[0]) == hashlib.sha256(b"clip").hexdigest()


def test_a_stamp_that_cannot_be_written_is_no_error(cache):
    path = cache / "a.pt"
    path.write_bytes(b"first")
    stamp_path(path).mkdir()
    assert recorded_sha256(path) == hashlib.sha256(b"first").hexdigest()
    assert sorted(os.listdir(cache)) == ["a.pt", "a.pt.sha256"]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_the_stamp(cache):
    path = cache / "a.pt"
    path.write_bytes(b"first")
    recorded_sha256(path)
    command = ["sha256sum", "--check", "--strict", "a.pt.sha256"]
    assert subprocess.run(command, cwd=cache, capture_output=True).returncode == 0


def test_a_part_of_a_digest_matches_from_its_beginning():
    digest = hashlib.sha256(b"").hexdigest()
    assert matches(digest, digest.upper())
    assert matches(digest, digest[:8])
    assert matches(digest, "")
    assert not matches(digest, digest[1:9])
    assert is_sha256(digest)
    assert not is_sha256(digest[:-1])
    assert not is_sha256("x" * 64)
