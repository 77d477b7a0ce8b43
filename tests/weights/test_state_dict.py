from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from escnet_d2.weights import (
    WeightsError,
    load_checkpoint_file,
    load_state_dict,
    state_dict,
)
from escnet_d2.weights.checksum import sha256_of


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "visual.proj": torch.randn(300, 40, generator=generator),
        "visual.half": torch.randn(3, generator=generator).half(),
    }


def assert_same(loaded, expected):
    assert list(loaded) == list(expected)
    for name, value in expected.items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].device.type == "cpu"
        assert torch.equal(loaded[name], value)


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("wrapper", [(), ("state_dict",), ("model",), ("model", "state_dict")])
def test_files_of_torch_save(tmp_path, new_format, wrapper):
    content = tensors()
    for key in wrapper:
        content = {key: content, "epoch": 3, "optimizer": {"state": {0: torch.ones(1)}}}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new_format)
    assert_same(load_state_dict(tmp_path / "a.pt"), tensors())


def test_safetensors_by_content_not_by_name(tmp_path):
    save_file(tensors(), tmp_path / "a.bin")
    loaded = load_state_dict(str(tmp_path / "a.bin"))
    assert_same({name: loaded[name] for name in tensors()}, tensors())


def test_the_prefix_of_parallel_training_goes(tmp_path):
    parallel = {f"module.{name}": value for name, value in tensors().items()}
    torch.save({"state_dict": parallel}, tmp_path / "a.pt")
    assert_same(load_state_dict(tmp_path / "a.pt"), tensors())
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "b.pt")
    assert sorted(load_state_dict(tmp_path / "b.pt")) == ["b", "module.a"]


class Archive(nn.Module):
    """Has what OpenAI's archives of CLIP have: a tower in half precision and facts as buffers."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Linear(3, 2)
        for index, fact in enumerate(("input_resolution", "context_length", "vocab_size")):
            self.register_buffer(fact, torch.tensor(index))

    def forward(self, x):
        return self.visual(x)


@pytest.fixture
def archive(tmp_path):
    """A TorchScript file, and the model that it holds."""
    torch.manual_seed(0)
    model = Archive().half()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model).save(str(tmp_path / "ViT-B-16.pt"))
    return tmp_path / "ViT-B-16.pt", model


def test_openai_archives_without_their_facts_and_without_a_warning(archive, monkeypatch):
    path, model = archive
    monkeypatch.setattr(state_dict, "_openai_sha256", lambda: {sha256_of(path)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_state_dict(path)
    expected = {"visual.weight": model.visual.weight, "visual.bias": model.visual.bias}
    assert_same(loaded, {name: value.detach() for name, value in expected.items()})


def test_other_torchscript_is_refused_before_it_is_loaded(archive, monkeypatch):
    path, _ = archive
    monkeypatch.setattr(torch.jit, "load", None)
    monkeypatch.setattr(torch, "load", None)
    for read in (load_state_dict, load_checkpoint_file):
        with pytest.raises(WeightsError, match=r"B-16\.pt is refused: .*TorchScript.*safetensors"):
            read(path)
    # Older torch dispatches to torch.jit.load by this file alone.
    with zipfile.ZipFile(path, "w") as archive_file:
        archive_file.writestr("any/constants.pkl", "")
        archive_file.writestr("any/data.pkl", "")
    with pytest.raises(WeightsError, match="TorchScript"):
        load_state_dict(path)


def test_openai_digests_are_those_of_its_files():
    known = state_dict._openai_sha256()
    assert "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f" in known  # ViT-B-16
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in known)


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.command = f"touch {path}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("writer", ["torch", "old torch", "pickle"])
def test_code_is_refused_and_not_run(tmp_path, writer):
    path, trace = tmp_path / "a.pt", tmp_path / "ran"
    content = {"weight": torch.ones(1), "code": Code(trace)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"code": Code(trace)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(WeightsError, match=r"a\.pt is refused: .* Python objects") as caught:
        load_state_dict(path)
    assert not trace.exists()
    # torch's own message advises to switch the protection off.
    assert "weights_only" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_modules_and_detectron2_pickles_of_arrays_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_state_dict(tmp_path / "a.pt")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {"weight": np.ones(3)}}))
    with pytest.raises(WeightsError, match=r"a\.pkl is refused"):
        load_state_dict(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (b"\n<!DOCTYPE html><html></html>", "an HTML or XML page"),
        (b"404: not found", "it begins with b'404: not found'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "it begins with"),
    ],
)
def test_wrong_files_are_called_what_they_are(tmp_path, content, looks_like):
    (tmp_path / "sam.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"sam\.pth is .*{looks_like}"):
        load_state_dict(tmp_path / "sam.pth")


@pytest.mark.parametrize("new_format", [True, False])
def test_a_checkpoint_is_read_whole_and_survives_its_file(tmp_path, new_format):
    content = {"model": tensors(), "iteration": 7, "optimizer": {"state": {0: {"step": 3}}}}
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    loaded = load_checkpoint_file(path)
    path.write_bytes(b"")
    assert_same(loaded.pop("model"), tensors())
    assert loaded == {"iteration": 7, "optimizer": {"state": {0: {"step": 3}}}}
    with pytest.raises(WeightsError, match=r"a\.pth is empty"):
        load_checkpoint_file(path)


@pytest.mark.parametrize("kind", ["torch", "old torch", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path, kind, share):
    path = tmp_path / "a.pt"
    if kind == "safetensors":
        save_file(tensors(), path)
    else:
        torch.save(tensors(), path, _use_new_zipfile_serialization=kind == "torch")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match=r"a\.pt is (truncated|damaged)"):
        load_state_dict(path)


def test_damaged_files_and_zips_of_something_else_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(tensors(), path, _use_new_zipfile_serialization=False)
    damaged = bytearray(path.read_bytes())
    damaged[20:60] = b"\xa5" * 40
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"a\.pt is (truncated or damaged|refused)"):
        load_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/readme.txt", "no weights")
    with pytest.raises(WeightsError, match=r"a\.pt is not a weights file: it is a zip archive"):
        load_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "a list instead"),
        ({"epoch": 3, "weights": {"a": torch.ones(1)}}, "its entries are epoch, weights"),
        ({"state_dict": {}}, "its entries are none"),
    ],
)
def test_other_content_than_weights_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=rf"a\.pt holds .*{message}"):
        load_state_dict(tmp_path / "a.pt")


def test_what_is_not_a_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    for name, problem in (
        (".", "not a regular file"),
        ("pipe.pt", "not a regular file"),
        ("none.pt", "does not exist"),
    ):
        path = tmp_path / name
        with pytest.raises(WeightsError, match=f"Cannot read the weights file {path}: .*{problem}"):
            load_state_dict(path)
