from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
import torch

from escnet_d2.weights import (
    CachedFile,
    HubFile,
    WeightsError,
    WeightsFile,
    cached_files,
    describe_search_path,
    fetch_into_cache,
    resolve_clip_weights,
    resolve_sam_weights,
    verify_cached,
)
from escnet_d2.weights import locate as locate_module
from escnet_d2.weights import resolve as resolve_module
from escnet_d2.weights.catalog import SAM_VIT_B, sources_of

CONTENT = b"PK\x03\x04 weights"
SMALL = WeightsFile(
    "sam_vit_b",
    "sam_vit_b_01ec64.pth",
    ("http://127.0.0.1:9/sam_vit_b_01ec64.pth",),
    hashlib.sha256(CONTENT).hexdigest(),
    len(CONTENT),
)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """An empty home, no network, and the cache in ``tmp_path / "cache"``."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ESCNET_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "common"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small_sam(monkeypatch):
    """Puts a file of a few bytes in the place of SAM's checkpoint."""
    monkeypatch.setattr(resolve_module, "SAM_VIT_B", SMALL)


def write(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.pt", "folder/a", "folder/openai"])
def test_a_path_is_taken_as_it_is(tmp_path, name):
    path = write(tmp_path / name, b"whatever")
    assert resolve_sam_weights(str(path)) == path
    assert resolve_clip_weights("any model", str(path)) == path
    assert resolve_sam_weights(name) == Path(name)


def test_a_path_may_start_at_home(tmp_path):
    path = write(tmp_path / "home" / "sam.pth")
    assert resolve_sam_weights("~/sam.pth") == path


@pytest.mark.parametrize("spec", ["missing.pth", "some/where", "./vit_b", "~/sam", "vit_b.pth"])
def test_a_missing_path_is_named(spec):
    expected = os.path.abspath(os.path.expanduser(spec))
    for resolve in (resolve_sam_weights, lambda s: resolve_clip_weights("ViT-B-16", s)):
        with pytest.raises(WeightsError, match="does not exist") as caught:
            resolve(spec)
        assert expected in str(caught.value)


def test_a_folder_and_an_address_are_no_files(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match="is a folder"):
        resolve_sam_weights("./folder")
    with pytest.raises(WeightsError, match="is an address"):
        resolve_sam_weights("https://example.org/sam.pth")


@pytest.mark.parametrize("spec", ["vit_h", "", "random"])
def test_unknown_words_list_what_is_accepted(spec):
    accepted = 'accepted: "vit_b", the path of a file, "random", or .*sam_shapes'
    with pytest.raises(WeightsError, match=accepted):
        resolve_sam_weights(spec)
    with pytest.raises(WeightsError, match="laion400m_e31, laion400m_e32"):
        resolve_clip_weights("ViT-B-16", spec)


def test_a_folder_named_like_a_tag_does_not_hide_it(tmp_path, small_sam):
    (tmp_path / "vit_b").mkdir()
    path = write(tmp_path / "cache" / SMALL.filename)
    assert resolve_sam_weights("vit_b") == path


def test_the_cache_comes_first_then_other_programs(tmp_path, small_sam):
    hub = write(tmp_path / "torch" / "hub" / "checkpoints" / SMALL.filename)
    assert resolve_sam_weights("vit_b") == hub
    clip = write(tmp_path / "home" / ".cache" / "clip" / SMALL.filename)
    assert resolve_sam_weights("vit_b") == clip
    cached = write(tmp_path / "cache" / SMALL.filename)
    assert resolve_sam_weights("vit_b") == cached


def test_other_programs_files_count_only_with_the_right_checksum(tmp_path, small_sam):
    write(tmp_path / "home" / ".cache" / "clip" / SMALL.filename, CONTENT[:-1] + b"?")
    hub = write(tmp_path / "torch" / "hub" / "checkpoints" / SMALL.filename)
    assert resolve_sam_weights("vit_b") == hub
    nameless = WeightsFile("a", SMALL.filename, SMALL.urls)
    assert locate_module.find_elsewhere(nameless) is None


def test_openai_weights_are_found_under_their_usual_name(tmp_path, monkeypatch):
    path = write(tmp_path / "home" / ".cache" / "clip" / "ViT-B-16.pt")
    # The real file has another digest than these few bytes.
    real = sources_of("clip_vit_b_16")[0].sha256
    monkeypatch.setattr(locate_module, "recorded_sha256", lambda path, *, rehash=False: real)
    assert resolve_clip_weights("ViT-B-16-quickgelu", "openai") == path
    assert resolve_clip_weights("ViT-B-16", "OpenAI") == path


def test_offline_it_says_what_is_missing_where_to_put_it_and_how_to_get_it(tmp_path):
    with pytest.raises(WeightsError) as caught:
        resolve_sam_weights("vit_b")
    message = str(caught.value)
    for part in (
        "ESCNET_OFFLINE",
        str(tmp_path / "cache" / "sam_vit_b_01ec64.pth"),
        SAM_VIT_B.urls[0],
        SAM_VIT_B.sha256,
        "python tools/download_weights.py --cache FOLDER sam_vit_b",
        "ESCNET_CACHE",
        str(tmp_path / "home" / ".cache" / "clip"),
    ):
        assert part in message
    assert not (tmp_path / "cache").exists()

    with pytest.raises(WeightsError, match=r"download_weights.py .* ViT-B-16:openai") as caught:
        resolve_clip_weights("ViT-B-16", "openai")
    assert "ViT-B-16.pt" in str(caught.value)


def test_offline_it_points_to_repositories_too():
    with pytest.raises(WeightsError) as caught:
        resolve_clip_weights("ViT-B-16", "laion2b_s34b_b88k")
    address = "https://huggingface.co/laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
    assert f"open_clip_model.safetensors from {address}" in str(caught.value)


def test_a_damaged_file_is_mentioned_offline(tmp_path, small_sam):
    write(tmp_path / "cache" / SMALL.filename, CONTENT[:-1])
    with pytest.raises(WeightsError, match="the file there now has another SHA-256"):
        resolve_sam_weights("vit_b")


def test_without_network_the_reason_is_given(monkeypatch, small_sam):
    monkeypatch.delenv("ESCNET_OFFLINE")
    with pytest.raises(WeightsError, match="could not be downloaded") as caught:
        resolve_sam_weights("vit_b")
    assert f"{SMALL.urls[0]}: " in str(caught.value)
    assert "tools/download_weights.py" in str(caught.value)


def test_the_next_source_is_used_when_the_first_fails(monkeypatch, tmp_path):
    monkeypatch.delenv("ESCNET_OFFLINE")
    monkeypatch.setattr(resolve_module, "download_from_hub", lambda source: tmp_path / source.name)
    sources = (SMALL, HubFile("hub", "owner/model", ("a",)))
    monkeypatch.setattr(resolve_module, "clip_sources", lambda name, tag: sources)
    assert resolve_clip_weights("any", "tag") == tmp_path / "hub"


def test_fetching_copies_what_other_programs_have(tmp_path):
    write(tmp_path / "home" / ".cache" / "clip" / SMALL.filename)
    assert verify_cached([SMALL]) is None
    path = fetch_into_cache([SMALL])
    assert path == tmp_path / "cache" / SMALL.filename
    assert path.read_bytes() == CONTENT
    assert verify_cached([SMALL]) == path


def test_a_copied_cache_needs_nothing_else(tmp_path, monkeypatch, small_sam):
    write(tmp_path / "cache" / SMALL.filename)
    resolve_sam_weights("vit_b")
    shutil.copytree(tmp_path / "cache", tmp_path / "node")
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "node"))
    monkeypatch.setattr("escnet_d2.weights.checksum.sha256_of", None)
    assert resolve_sam_weights("vit_b") == tmp_path / "node" / SMALL.filename


def test_verifying_reads_the_file_again(tmp_path):
    path = write(tmp_path / "cache" / SMALL.filename)
    assert verify_cached([SMALL]) == path
    times = path.stat()
    path.write_bytes(CONTENT[:-1] + b"?")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert verify_cached([SMALL]) == path
    assert verify_cached([SMALL], rehash=True) is None
    assert verify_cached([SMALL]) is None


def test_the_listing_has_weights_only(tmp_path):
    cache = tmp_path / "cache"
    assert cached_files() == []
    sam = write(cache / "sam_vit_b_01ec64.pth", b"12345")
    own = write(cache / "own.pt", b"1")
    for name in ("own.pt.lock", "own.pt.sha256", "own.pt.0f.partial"):
        write(cache / name, b"x")
    snapshot = cache / "huggingface" / "models--laion--CLIP-B" / "snapshots" / "c0ffee"
    hub = write(snapshot / "m.safetensors", b"123")
    write(snapshot / "m.safetensors.sha256", b"x")
    clip = write(tmp_path / "home" / ".cache" / "clip" / "ViT-B-16.pt", b"12")
    write(tmp_path / "home" / ".cache" / "clip" / "unrelated.pt", b"12")
    assert cached_files() == [
        CachedFile(own, 1, ""),
        CachedFile(sam, 5, "sam_vit_b"),
        CachedFile(hub, 3, "laion/CLIP-B/m.safetensors"),
        CachedFile(clip, 2, "clip_vit_b_16"),
    ]


def test_the_search_path_is_told_in_order(tmp_path, monkeypatch):
    lines = describe_search_path()
    folders = ["cache", "home/.cache/clip", "torch/hub/checkpoints"]
    assert [str(tmp_path / name) in line for name, line in zip(folders, lines[1:])] == [True] * 3
    assert "ESCNET_CACHE" in lines[1]
    assert "not there yet" in lines[1]
    assert lines[-1].startswith("no download")
    monkeypatch.delenv("ESCNET_OFFLINE")
    assert describe_search_path()[-1].startswith("download;")


def test_folders_that_this_user_may_not_enter_hold_nothing(monkeypatch, tmp_path):
    forbidden = {tmp_path / "home", tmp_path / "cache", tmp_path / "torch"}
    stat = os.stat

    def deny(path, *arguments, **options):
        if not isinstance(path, int) and forbidden & {*Path(os.fsdecode(path)).parents}:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", deny)
    with pytest.raises(PermissionError):
        (tmp_path / "home" / "x").stat()
    assert cached_files() == []
    assert len(describe_search_path()) > 3
    with pytest.raises(WeightsError, match="ESCNET_OFFLINE forbids downloading"):
        resolve_sam_weights("vit_b")
