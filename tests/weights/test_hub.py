from __future__ import annotations

import hashlib
import os
import ssl
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from escnet_d2.weights import HubFile
from escnet_d2.weights.errors import DownloadError
from escnet_d2.weights.hub import download_from_hub, find_in_hub_cache

huggingface_hub = pytest.importorskip("huggingface_hub")

REPOSITORY = "owner/model"
COMMIT = "c" * 40
CONTENT = b"PK\x03\x04" + bytes(1000)
FILE = HubFile("m:t", REPOSITORY, ("m.safetensors", "m.bin"))


class Hub:
    """The few answers of Hugging Face that a download needs."""

    def __init__(self):
        self.files = {}
        self.stated_sha256 = {}
        self.requests = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self._answer(with_body=False)

            def do_GET(self):
                self._answer(with_body=True)

            def _answer(self, with_body):
                name = self.path.split("/")[-1]
                owner.requests.append((self.command, name))
                body = owner.files.get(name) if "/resolve/" in self.path else None
                self.send_response(200 if body is not None else 404)
                self.send_header("X-Repo-Commit", COMMIT)
                if body is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                    body = b""
                else:
                    sha256 = owner.stated_sha256.get(name) or hashlib.sha256(body).hexdigest()
                    self.send_header("ETag", f'"{sha256}"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "common"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    hub = Hub()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield hub
    hub.close()


def test_the_preferred_format_is_fetched_once(hub, cache):
    hub.files = {"m.safetensors": CONTENT, "m.bin": b"other"}
    path = download_from_hub(FILE)
    assert path.read_bytes() == CONTENT
    assert path.name == "m.safetensors"
    assert cache in path.parents
    assert find_in_hub_cache(FILE) == path
    assert find_in_hub_cache(FILE, only_ours=True) == path
    assert ("GET", "m.bin") not in hub.requests


def test_the_other_format_is_taken_when_the_repository_has_only_that(hub, cache):
    hub.files = {"m.bin": CONTENT}
    assert download_from_hub(FILE).name == "m.bin"
    assert find_in_hub_cache(FILE).name == "m.bin"


def test_a_repository_without_the_file_is_named(hub, cache):
    with pytest.raises(DownloadError, match="owner/model: has none of m.safetensors, m.bin"):
        download_from_hub(FILE)


def test_what_differs_from_the_stated_sha256_is_refused(hub, cache):
    hub.files = {"m.safetensors": CONTENT}
    hub.stated_sha256 = {"m.safetensors": "0" * 64}
    with pytest.raises(DownloadError, match="m.safetensors"):
        download_from_hub(FILE)
    assert find_in_hub_cache(FILE) is None


def test_a_damaged_file_is_fetched_again(hub, cache):
    hub.files = {"m.safetensors": CONTENT}
    path = download_from_hub(FILE)
    path.resolve().write_bytes(b"damaged")
    os.utime(path, (1, 1))
    assert find_in_hub_cache(FILE) is None
    assert download_from_hub(FILE).read_bytes() == CONTENT


def test_the_common_cache_is_looked_into_but_not_counted_as_ours(hub, cache, tmp_path):
    hub.files = {"m.safetensors": CONTENT}
    huggingface_hub.hf_hub_download(REPOSITORY, "m.safetensors", cache_dir=tmp_path / "common")
    assert find_in_hub_cache(FILE).read_bytes() == CONTENT
    assert find_in_hub_cache(FILE, only_ours=True) is None


def test_a_certificate_that_only_python_distrusts_stops_nothing(hub, cache, monkeypatch):
    hub.files = {"m.safetensors": CONTENT}

    def distrust(*arguments, **options):
        raise urllib.error.URLError(ssl.SSLCertVerificationError("self-signed certificate"))

    monkeypatch.setattr("urllib.request.urlopen", distrust)
    assert download_from_hub(FILE).read_bytes() == CONTENT


def test_without_a_connection_it_fails_at_once(hub, cache):
    hub.close()
    with pytest.raises(DownloadError, match="m.safetensors.*refused"):
        download_from_hub(FILE)
