from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import nn

from escnet_d2.weights import WeightsError, sam_decoder_state_dict
from escnet_d2.weights import sam as sam_module


def build_sam(depth=2, num_multimask_outputs=3):
    """SAM's modules in their official sizes, with something in the place of the image encoder."""
    torch.manual_seed(0)
    sam = nn.Module()
    sam.image_encoder = nn.Conv2d(3, 8, 16)
    sam.prompt_encoder = PromptEncoder(
        embed_dim=256,
        image_embedding_size=(64, 64),
        input_image_size=(1024, 1024),
        mask_in_chans=16,
    )
    sam.mask_decoder = MaskDecoder(
        num_multimask_outputs=num_multimask_outputs,
        transformer=TwoWayTransformer(depth=depth, embedding_dim=256, mlp_dim=2048, num_heads=8),
        transformer_dim=256,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    return sam


@pytest.fixture(scope="module")
def official():
    return build_sam().state_dict()


def test_exactly_the_two_parts_are_kept(official, tmp_path):
    torch.save(official, tmp_path / "sam.pth")
    loaded = sam_decoder_state_dict(tmp_path / "sam.pth")
    expected = {name for name in official if not name.startswith("image_encoder.")}
    assert set(loaded) == expected
    assert len(expected) < len(official)
    assert all(torch.equal(loaded[name], official[name]) for name in expected)

    # What is kept loads strictly into SAM's own modules.
    sam = build_sam()
    del sam.image_encoder
    sam.load_state_dict(loaded, strict=True)

    torch.save({"model": loaded}, tmp_path / "reduced.pth")
    assert set(sam_decoder_state_dict(tmp_path / "reduced.pth")) == expected


def test_every_single_tensor_is_required(official, monkeypatch):
    for missing in official:
        rest = {name: value for name, value in official.items() if name != missing}
        monkeypatch.setattr(sam_module, "load_state_dict", lambda path, rest=rest: rest)
        if missing.startswith("image_encoder."):
            sam_decoder_state_dict("sam.pth")
            continue
        with pytest.raises(WeightsError, match=rf"sam\.pth .* lacks {missing}\.$"):
            sam_decoder_state_dict("sam.pth")


def test_a_file_of_another_model_is_refused_with_the_first_names(tmp_path):
    torch.save({"visual.proj": torch.zeros(1)}, tmp_path / "clip.pt")
    with pytest.raises(WeightsError) as caught:
        sam_decoder_state_dict(tmp_path / "clip.pt")
    message = str(caught.value)
    assert str(tmp_path / "clip.pt") in message
    assert "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix" in message
    assert message.endswith("more.")
    assert len(message) < 600


def test_other_depths_and_numbers_of_tokens(tmp_path):
    weights = {name: torch.zeros(1) for name in build_sam(1, 0).state_dict()}
    torch.save(weights, tmp_path / "small.pth")
    loaded = sam_decoder_state_dict(tmp_path / "small.pth", depth=1, num_mask_tokens=1)
    assert set(loaded) == {name for name in weights if not name.startswith("image_encoder.")}
    with pytest.raises(WeightsError, match=r"mask_decoder\.transformer\.layers\.1\."):
        sam_decoder_state_dict(tmp_path / "small.pth", num_mask_tokens=1)
    with pytest.raises(WeightsError, match="output_hypernetworks_mlps"):
        sam_decoder_state_dict(tmp_path / "small.pth", depth=1)
