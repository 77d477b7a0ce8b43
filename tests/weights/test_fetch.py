from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from open_clip.pretrained import list_pretrained

from escnet_d2.weights import (
    PUBLISHED_NAMES,
    RELEASED_NAMES,
    WeightsError,
    clip_weights_file,
    fetch,
    find_released,
    released_file,
    sam_weights_file,
    verify,
)
from escnet_d2.weights.fetch import SAM_FILES, ReleasedFile

CONTENT = b"PK\x03\x04" + bytes(1000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HUB_FILE = ReleasedFile("m:t", "owner/model", ("m.safetensors", "m.bin"))


def url_file(server, sha256=SHA256):
    server.files["a.pth"] = CONTENT
    return ReleasedFile("a", f"{server.address}/a.pth", sha256=sha256)


def put_sam():
    SAM_FILES["vit_b"].place.parent.mkdir(parents=True)
    SAM_FILES["vit_b"].place.write_bytes(CONTENT)
    return SAM_FILES["vit_b"].place


def put_clip():
    """Writes a file as Hugging Face's cache has it."""
    file = ReleasedFile("", "timm/vit_base_patch16_clip_224.openai", ())
    path = file.place / "snapshots" / ("c" * 40) / "open_clip_model.safetensors"
    blob = file.place / "blobs" / SHA256
    for folder in (path.parent, blob.parent, file.place / "refs"):
        folder.mkdir(parents=True)
    (file.place / "refs" / "main").write_text("c" * 40)
    blob.write_bytes(CONTENT)
    path.symlink_to(os.path.relpath(blob, path.parent))
    return path


def test_a_hub_file_is_fetched_in_the_preferred_format_and_once(server, caplog):
    server.files = {"m.safetensors": CONTENT, "m.bin": b"other"}
    with caplog.at_level("INFO"):
        path = fetch(HUB_FILE)
    assert f"{path} has the SHA-256 that its publisher states, {SHA256}" in caplog.text
    assert path.read_bytes() == CONTENT
    assert path.name == "m.safetensors"
    assert HUB_FILE.place in path.parents
    server.requests.clear()
    assert fetch(HUB_FILE) == path
    assert server.requests == []
    verify(HUB_FILE, path)
    path.resolve().write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=f"{path} is damaged"):
        verify(HUB_FILE, path)


def test_the_other_format_is_taken_when_the_repository_has_only_that(server):
    with pytest.raises(WeightsError, match="owner/other has none of m.safetensors, m.bin"):
        fetch(ReleasedFile("m:t", "owner/other", HUB_FILE.filenames))
    server.files = {"m.bin": CONTENT}
    assert fetch(HUB_FILE).name == "m.bin"
    assert HUB_FILE.find().name == "m.bin"


def test_a_hub_file_with_another_sha256_than_stated_leaves_nothing(server):
    server.files = {"m.safetensors": CONTENT}
    server.stated_sha256 = {"m.safetensors": "0" * 64}
    with pytest.raises(WeightsError, match="m.safetensors arrived with another SHA-256 than 0000"):
        fetch(HUB_FILE)
    assert HUB_FILE.find() is None
    server.stated_sha256.clear()
    assert fetch(HUB_FILE).read_bytes() == CONTENT


def test_a_hub_file_without_a_sha256_is_refused_unless_accepted(server, monkeypatch, caplog):
    server.files = {"m.safetensors": CONTENT}
    server.stated_sha256 = {"m.safetensors": "0" * 40}
    message = "m.safetensors cannot be verified: .*owner/model.*ESCNET_ALLOW_UNVERIFIED=1"
    # As it arrives, and when it is found.
    for _ in range(2):
        with pytest.raises(WeightsError, match=message):
            fetch(HUB_FILE)
    monkeypatch.setenv("ESCNET_ALLOW_UNVERIFIED", "1")
    assert fetch(HUB_FILE).read_bytes() == CONTENT
    assert "m.safetensors is not verified" in caplog.text


def test_a_file_behind_an_address_arrives_whole_and_once(server, tmp_path, caplog):
    file = url_file(server)
    with caplog.at_level("INFO"):
        path = fetch(file)
    assert f"{path} has the SHA-256 that its publisher states, {SHA256}" in caplog.text
    assert path == tmp_path / "torch" / "hub" / "checkpoints" / "a.pth"
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["a.pth"]
    assert fetch(file) == path
    assert server.requests == [("GET", "a.pth")]


def test_a_file_behind_an_address_with_another_sha256_leaves_nothing(server):
    file = url_file(server, "0" * 64)
    with pytest.raises(WeightsError, match=f"invalid hash value .*{'0' * 64}"):
        fetch(file)
    assert os.listdir(file.place.parent) == []


@pytest.mark.parametrize("kind", ["missing", "refused", "folder"])
def test_failures_say_where_the_file_belongs_and_what_fetches_it(server, tmp_path, kind):
    file = url_file(server)
    if kind == "missing":
        server.files.clear()
    elif kind == "refused":
        file = ReleasedFile("a", "http://127.0.0.1:9/a.pth", sha256="0" * 64)
    else:
        (tmp_path / "torch").write_bytes(b"")
    with pytest.raises(WeightsError) as caught:
        fetch(file)
    message = str(caught.value)
    for part in (str(file.place), "cannot be downloaded: ", "tools/download_weights.py a;"):
        assert part in message
    assert "\n" not in message


def test_offline_nothing_is_fetched_and_everything_is_said(tmp_path):
    with pytest.raises(WeightsError) as caught:
        sam_weights_file("vit_b")
    for part in (
        f"{tmp_path}/torch/hub/checkpoints/sam_vit_b_01ec64.pth",
        "HF_HUB_OFFLINE forbids downloading it",
        "python tools/download_weights.py sam_vit_b;",
    ):
        assert part in str(caught.value)
    with pytest.raises(WeightsError, match=r"download_weights\.py ViT-B-16:openai;") as caught:
        clip_weights_file("ViT-B-16", "openai")
    assert f"{tmp_path}/hub/models--timm--vit_base_patch16_clip_224.openai" in str(caught.value)


def test_what_is_on_this_machine_is_found_without_network():
    assert find_released() == dict.fromkeys((*RELEASED_NAMES, *PUBLISHED_NAMES))
    sam, clip = put_sam(), put_clip()
    assert sam_weights_file("vit_b") == sam
    # Both spellings of the model, and of the tag, share a file.
    assert clip_weights_file("ViT-B-16-quickgelu", "openai") == clip
    assert clip_weights_file("ViT-B-16", "OpenAI") == clip
    here = {name: path for name, path in find_released().items() if path}
    assert here == {"sam_vit_b": sam, "clip_vit_b_16": clip}
    verify(released_file("clip_vit_b_16"), clip)
    with pytest.raises(WeightsError, match=f"{sam} is damaged: its SHA-256 is not ec2df627"):
        verify(SAM_FILES["vit_b"], sam)


def test_paths_come_before_words_and_wrong_ones_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own").write_bytes(CONTENT)
    (tmp_path / "folder").mkdir()
    for spec in ("own", "~/own", str(tmp_path / "own")):
        path = Path(os.path.expanduser(spec))
        assert clip_weights_file("ViT-B-16", spec) == path
        assert sam_weights_file(spec) == path
    with pytest.raises(WeightsError, match=f"{tmp_path}/none.pth does not exist"):
        sam_weights_file("none.pth")
    with pytest.raises(WeightsError, match=f"{tmp_path}/weights/clip does not exist"):
        clip_weights_file("ViT-B-16", "weights/clip")
    with pytest.raises(WeightsError, match=f"{tmp_path}/folder is a folder"):
        sam_weights_file("./folder")
    with pytest.raises(WeightsError, match="is an address"):
        sam_weights_file("https://example.org/sam.pth")


@pytest.mark.parametrize("spec", ["vit_z", "", "sam_shape"])
def test_unknown_words_list_what_is_accepted(spec):
    accepted = 'accepted: vit_b, vit_l, vit_h, the path of a file, "random", or .*sam_shapes'
    with pytest.raises(WeightsError, match=accepted):
        sam_weights_file(spec)
    with pytest.raises(WeightsError, match="accepted: .*laion400m_e31, laion400m_e32"):
        clip_weights_file("ViT-B-16", spec)
    with pytest.raises(WeightsError, match="'escnet_tiny'; accepted: the path of a file"):
        clip_weights_file("escnet_tiny", spec)


def test_names_of_the_command_line():
    assert released_file("clip_vit_l_14_336").name == "ViT-L-14-336-quickgelu:openai"
    assert released_file("sam_vit_h").place.name == "sam_vit_h_4b8939.pth"
    file = released_file("ViT-B-16:laion2b-s34b-b88k")
    assert file.source == "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
    assert file.filenames == ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    file = released_file("ViTamin-B:datacomp1b")
    assert file.filenames == ("pytorch_model.safetensors", "pytorch_model.bin")
    with pytest.raises(WeightsError, match="sam_vit_b, clip_vit_b_16, clip_vit_l_14_336"):
        released_file("sam")


def test_every_tag_of_open_clip_names_a_repository():
    tags = list_pretrained()
    assert len(tags) > 100
    assert all(released_file(f"{model}:{tag}").source for model, tag in tags)
