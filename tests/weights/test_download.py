from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import portalocker
import pytest
from portalocker.exceptions import AlreadyLocked, LockException

from escnet_d2.weights import WeightsError, WeightsFile
from escnet_d2.weights import download as download_module
from escnet_d2.weights.download import copy_into_cache, download
from escnet_d2.weights.errors import DownloadError

# More than one chunk, and with the first bytes of a PyTorch file.
CONTENT = b"PK\x03\x04" + bytes(range(256)) * 5000
HTML = b"<!DOCTYPE html><html>Please log in</html>"


class Server:
    """Serves bytes on 127.0.0.1 and keeps the list of what was asked for."""

    def __init__(self):
        self.files = {}
        self.broken_off = set()
        self.delay = 0.0
        self.requests = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.lstrip("/")
                owner.requests.append(name)
                time.sleep(owner.delay)
                if name not in owner.files:
                    self.send_error(404)
                    return
                body = owner.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if name in owner.broken_off else body)

            def log_message(self, *arguments):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, name):
        return f"http://127.0.0.1:{self._http.server_port}/{name}"

    def offer(self, name="a.pt", body=CONTENT, *, sha256=None):
        """The catalogue entry of a file that the server has."""
        self.files[name] = body
        digest = hashlib.sha256(body).hexdigest() if sha256 is None else sha256
        return WeightsFile("a", name, (self.url(name),), digest, len(body))

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = Server()
    yield server
    server.close()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "not" / "yet" / "there"
    monkeypatch.setenv("ESCNET_CACHE", str(folder))
    return folder


def left_behind(cache):
    return sorted(name for name in os.listdir(cache) if not name.endswith(".lock"))


def test_a_file_arrives_whole_and_only_once(server, cache):
    file = server.offer()
    path = download(file)
    assert path == cache / "a.pt"
    assert path.read_bytes() == CONTENT
    assert left_behind(cache) == ["a.pt", "a.pt.sha256"]
    assert download(file) == path
    assert server.requests == ["a.pt"]


def test_the_file_is_as_readable_as_the_user_wants(server, cache):
    mask = os.umask(0o022)
    try:
        path = download(server.offer())
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.slow
def test_another_process_uses_the_cache_without_the_server(server, cache):
    file = server.offer()
    download(file)
    code = (
        "from escnet_d2.weights import WeightsFile\n"
        "from escnet_d2.weights.download import download\n"
        f"print(download({file!r}))"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.strip() == str(cache / "a.pt")
    assert server.requests == ["a.pt"]


def test_several_at_once_fetch_it_once(server, cache, caplog):
    file = server.offer()
    server.delay = 0.3
    with caplog.at_level("INFO"), ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(download, [file] * 4))
    assert paths == [cache / "a.pt"] * 4
    assert server.requests == ["a.pt"]
    assert "Waiting for another process" in caplog.text


def test_a_lock_that_is_never_freed_is_named(server, cache, monkeypatch):
    monkeypatch.setattr(download_module, "LOCK_SECONDS", 0.3)
    file = server.offer()
    cache.mkdir(parents=True)
    message = r"a\.pt\.lock.*another process holds it"
    with portalocker.Lock(str(cache / "a.pt.lock")), pytest.raises(WeightsError, match=message):
        download(file)
    assert server.requests == []
    assert download(file).is_file()


def test_a_file_system_without_locks_is_named_at_once(server, cache, monkeypatch):
    calls = []

    def acquire(self, **options):
        """What portalocker 3 makes of it."""
        calls.append(options)
        cause = LockException("no locks")
        cause.__cause__ = OSError(errno.ENOLCK, "No locks available")
        raise AlreadyLocked(cause) from cause

    monkeypatch.setattr(portalocker.Lock, "acquire", acquire)
    with pytest.raises(WeightsError, match=r"No locks available.*ESCNET_CACHE"):
        download(server.offer())
    # It does not wait, for an hour, as for another process.
    assert len(calls) == 1
    assert server.requests == []


def test_a_wrong_checksum_is_refused(server, cache):
    file = server.offer(sha256="0" * 64)
    with pytest.raises(DownloadError, match="wrong checksum") as caught:
        download(file)
    for part in (file.urls[0], hashlib.sha256(CONTENT).hexdigest(), "0" * 64):
        assert part in str(caught.value)
    assert left_behind(cache) == []


def test_the_first_digits_of_a_checksum_are_checked_too(server, cache):
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert download(server.offer(sha256=digest[:8])).is_file()
    with pytest.raises(DownloadError, match="wrong checksum"):
        download(server.offer("b.pt", sha256=("1" if digest[0] == "0" else "0") + digest[1:8]))


def test_a_file_without_a_published_checksum_is_taken_with_a_warning(server, cache, caplog):
    file = dataclasses.replace(server.offer(sha256=""), size=None)
    assert download(file).read_bytes() == CONTENT
    assert "no checksum is published" in caplog.text
    download(file)
    assert server.requests == ["a.pt"]


@pytest.mark.parametrize("sha256", [None, ""])
def test_a_transfer_that_breaks_off_leaves_nothing(server, cache, sha256):
    file = server.offer(sha256=sha256)
    server.broken_off.add("a.pt")
    with pytest.raises(DownloadError, match=f"broke off after .* of {len(CONTENT)} bytes"):
        download(file)
    assert left_behind(cache) == []
    server.broken_off.clear()
    assert download(file).read_bytes() == CONTENT


def test_a_login_page_is_called_one(server, cache):
    with pytest.raises(DownloadError, match="HTML page"):
        download(server.offer(body=HTML, sha256=""))
    with pytest.raises(DownloadError, match="HTML page"):
        download(dataclasses.replace(server.offer(body=HTML), sha256="0" * 64))
    assert left_behind(cache) == []


def test_addresses_are_tried_in_order(server, cache):
    file = server.offer()
    bad, missing, good = server.offer("bad.pt", HTML).urls[0], server.url("none.pt"), file.urls[0]
    file = dataclasses.replace(file, urls=(missing, bad, good))
    assert download(file).read_bytes() == CONTENT
    assert server.requests == ["none.pt", "bad.pt", "a.pt"]


def test_every_address_that_failed_is_named(server, cache):
    file = dataclasses.replace(server.offer(), urls=(server.url("x.pt"), server.url("y.pt")))
    with pytest.raises(DownloadError) as caught:
        download(file)
    assert str(caught.value).count("HTTP Error 404") == 2
    assert all(url in str(caught.value) for url in file.urls)


def test_a_silent_server_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.pt"
        start = time.monotonic()
        with pytest.raises(DownloadError, match="timed out"):
            download(WeightsFile("a", "a.pt", (url,)))
    assert time.monotonic() - start < 5


def test_a_damaged_file_in_the_cache_is_replaced(server, cache):
    file = server.offer()
    cache.mkdir(parents=True)
    (cache / "a.pt").write_bytes(CONTENT[:-1] + b"?")
    assert download(file).read_bytes() == CONTENT


def test_a_failed_download_keeps_what_was_there(server, cache):
    file = server.offer(sha256="0" * 64)
    cache.mkdir(parents=True)
    (cache / "a.pt").write_bytes(b"mine")
    with pytest.raises(DownloadError):
        download(file)
    assert (cache / "a.pt").read_bytes() == b"mine"


def test_leftovers_of_killed_downloads_go_after_a_day(server, cache):
    cache.mkdir(parents=True)
    names = ["a.pt.old.partial", "a.pt.young.partial", "b.pt.old.partial"]
    for name in names:
        (cache / name).write_bytes(b"x")
        if "old" in name:
            os.utime(cache / name, (1, 1))
    download(server.offer())
    assert left_behind(cache) == ["a.pt", "a.pt.sha256", *names[1:]]


def test_a_cache_that_cannot_be_made_is_named(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="set ESCNET_CACHE"):
        download(server.offer())
    assert server.requests == []


def test_a_copy_is_verified_as_a_download_is(cache, tmp_path):
    source = tmp_path / "elsewhere.pt"
    source.write_bytes(CONTENT)
    file = WeightsFile("a", "a.pt", (), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert copy_into_cache(source, file).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=r"elsewhere\.pt: wrong checksum"):
        copy_into_cache(source, dataclasses.replace(file, filename="b.pt", sha256="0" * 64))
    with pytest.raises(DownloadError, match=r"none\.pt"):
        copy_into_cache(tmp_path / "none.pt", file)
