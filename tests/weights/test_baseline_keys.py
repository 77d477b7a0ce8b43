"""CLIP's tensors under open_clip's and the releases' names, both ways."""

import importlib.util
from pathlib import Path

import pytest
import torch

from escnet_d2.weights.baseline_keys import (
    CLIP_PREFIX,
    ESCNET_CLIP_PREFIX,
    baseline_clip_tensors,
    baseline_method,
    join_attention,
    open_clip_tensors,
    save_baseline_checkpoint,
    split_attention,
)

# open_clip's name, and CAT-Seg's below its prefix.
CAT_SEG_NAMES = {
    "visual.conv1.weight": ["visual.conv1.weight"],
    "visual.transformer.resblocks.0.attn.in_proj_weight": [
        "visual.transformer.resblocks.0.attn.q_proj_weight",
        "visual.transformer.resblocks.0.attn.k_proj_weight",
        "visual.transformer.resblocks.0.attn.v_proj_weight",
    ],
    "visual.transformer.resblocks.0.attn.in_proj_bias": [
        "visual.transformer.resblocks.0.attn.in_proj_bias"
    ],
    "transformer.resblocks.11.attn.in_proj_weight": [
        "transformer.resblocks.11.attn.q_proj_weight",
        "transformer.resblocks.11.attn.k_proj_weight",
        "transformer.resblocks.11.attn.v_proj_weight",
    ],
    "token_embedding.weight": ["token_embedding.weight"],
    "logit_scale": ["logit_scale"],
}
MARKS = {
    "CATSeg": "sem_seg_head.predictor.transformer.layers.0.attention.norm1.weight",
    "SED": "sem_seg_head.predictor.transformer.decoder1.attention.norm1.weight",
}


def clip_tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn((12, 4) if name.endswith("weight") else (12,), generator=generator)
        for name in CAT_SEG_NAMES
    }


def test_names_of_cat_seg_follow_the_table():
    tensors = clip_tensors()
    renamed = baseline_clip_tensors(tensors, method="CATSeg")
    expected = {f"{CLIP_PREFIX}{name}" for names in CAT_SEG_NAMES.values() for name in names}
    assert set(renamed) == expected
    for name, theirs in CAT_SEG_NAMES.items():
        parts = tensors[name].chunk(3) if len(theirs) == 3 else [tensors[name]]
        for their, part in zip(theirs, parts):
            assert torch.equal(renamed[f"{CLIP_PREFIX}{their}"], part)


@pytest.mark.parametrize("method", ["CATSeg", "SED"])
def test_both_ways_are_inverse(method):
    tensors = clip_tensors()
    renamed = baseline_clip_tensors(tensors, method=method)
    back = open_clip_tensors({**renamed, MARKS[method]: torch.ones(1)})
    assert list(back) == list(tensors)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    again = baseline_clip_tensors(back, method=method)
    assert all(torch.equal(again[name], renamed[name]) for name in renamed)
    if method == "SED":
        assert set(renamed) == {f"{CLIP_PREFIX}{name}" for name in tensors}


def test_esc_net_has_a_clip_too():
    split = split_attention(clip_tensors())
    found = open_clip_tensors({f"{ESCNET_CLIP_PREFIX}{name}": t for name, t in split.items()})
    assert set(found) == set(CAT_SEG_NAMES)


def test_incomplete_or_foreign_tensors_are_refused():
    split = split_attention(clip_tensors())
    for part in "qkv":
        name = f"transformer.resblocks.11.attn.{part}_proj_weight"
        with pytest.raises(ValueError, match="stands without"):
            join_attention({n: t for n, t in split.items() if n != name})
    with pytest.raises(ValueError, match="There is no CLIP in it"):
        open_clip_tensors({"backbone.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="method must be one of CATSeg, SED"):
        baseline_clip_tensors({}, method="SAN")
    with pytest.raises(ValueError, match="No checkpoint of CATSeg or SED"):
        baseline_method({"backbone.weight": torch.ones(1)})


@pytest.mark.parametrize("method", ["CATSeg", "SED"])
def test_saved_files_hold_the_release_and_nothing_else(method, tmp_path):
    tensors = {
        **baseline_clip_tensors(clip_tensors(), method=method),
        MARKS[method]: torch.ones(3, dtype=torch.float16),
    }
    path = tmp_path / "release.pth"
    assert save_baseline_checkpoint(tensors, path) == method
    content = torch.load(path, weights_only=True)
    assert set(content) == {"model"}
    assert set(content["model"]) == set(tensors)
    for name, tensor in content["model"].items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[name].float())
        # A part of a joined tensor does not drag the whole of it along.
        assert tensor.untyped_storage().nbytes() == 4 * tensor.numel()
    with pytest.raises(FileExistsError):
        save_baseline_checkpoint(tensors, path)


def test_a_bad_file_ends_the_program_in_one_line_that_names_it(tmp_path):
    path = Path(__file__).resolve().parents[2] / "tools" / "export_checkpoint.py"
    specification = importlib.util.spec_from_file_location("export_checkpoint", path)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({f"{ESCNET_CLIP_PREFIX}proj": torch.ones(1)}, tmp_path / "clip.pth")
    for layout, source, output, message in (
        ("open_clip", "empty.pth", "out.pth", f"{tmp_path}/empty.pth is empty"),
        ("release", "clip.pth", "out.pth", f"{tmp_path}/clip.pth: No checkpoint of"),
        ("open_clip", "clip.pth", "none/out.pth", f"{tmp_path}/none does not exist"),
        ("open_clip", "clip.pth", "empty.pth", f"{tmp_path}/empty.pth is there already"),
    ):
        with pytest.raises(SystemExit, match=message) as caught:
            tool.main(["--to", layout, str(tmp_path / source), str(tmp_path / output)])
        assert "\n" not in str(caught.value)
