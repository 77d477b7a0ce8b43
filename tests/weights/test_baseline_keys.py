"""CLIP's tensors under open_clip's and the releases' names, both ways."""

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

# open_clip's names; CAT-Seg's attention has three weights in the place of each of the split ones.
SPLIT_NAMES = (
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "transformer.resblocks.11.attn.in_proj_weight",
)
NAMES = (
    "visual.conv1.weight",
    *SPLIT_NAMES,
    "visual.transformer.resblocks.0.attn.in_proj_bias",
    "token_embedding.weight",
    "logit_scale",
)
MARKS = {
    "CATSeg": "sem_seg_head.predictor.transformer.layers.0.attention.norm1.weight",
    "SED": "sem_seg_head.predictor.transformer.decoder1.attention.norm1.weight",
}


def clip_tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn((12, 4) if name.endswith("weight") else (12,), generator=generator)
        for name in NAMES
    }


def test_cat_seg_has_three_weights_for_one_of_open_clip():
    tensors, expected = clip_tensors(), {}
    for name, tensor in tensors.items():
        theirs = [name]
        if name in SPLIT_NAMES:
            theirs = [name.replace("in_proj", f"{part}_proj") for part in "qkv"]
        for their, part in zip(theirs, tensor.chunk(len(theirs))):
            expected[f"{CLIP_PREFIX}{their}"] = part
    renamed = baseline_clip_tensors(tensors, method="CATSeg")
    assert set(renamed) == set(expected)
    assert all(torch.equal(renamed[name], expected[name]) for name in expected)


def test_every_method_gives_back_the_clip_that_went_in():
    tensors = clip_tensors()
    sed = baseline_clip_tensors(tensors, method="SED")
    assert set(sed) == {f"{CLIP_PREFIX}{name}" for name in tensors}
    cat_seg = baseline_clip_tensors(tensors, method="CATSeg")
    escnet = {f"{ESCNET_CLIP_PREFIX}{name}": t for name, t in split_attention(tensors).items()}
    for renamed in (sed, cat_seg, escnet):
        back = open_clip_tensors({**renamed, "other": torch.ones(1)})
        assert list(back) == list(tensors)
        assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_incomplete_or_foreign_tensors_are_refused():
    split = split_attention(clip_tensors())
    for part in "qkv":
        name = f"transformer.resblocks.11.attn.{part}_proj_weight"
        with pytest.raises(ValueError, match="stands without"):
            join_attention({n: t for n, t in split.items() if n != name})
    with pytest.raises(ValueError, match="It holds no CLIP"):
        open_clip_tensors({"backbone.weight": torch.ones(1)})
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
