from __future__ import annotations

import pytest
import torch

from escnet_d2.modeling.sam.build import build_sam_blocks
from escnet_d2.weights import WeightsError, sam_decoder_state_dict


def tensors():
    return {
        "image_encoder.proj": torch.zeros(9),
        "prompt_encoder.no_mask_embed.weight": torch.ones(1, 4),
        "mask_decoder.iou_token.weight": torch.full((1, 4), 2.0),
        "mask_decoder.iou_prediction_head.layers.0.weight": torch.zeros(4, 4),
    }


WANTED = ("prompt_encoder.no_mask_embed.weight", "mask_decoder.iou_token.weight")


def test_exactly_the_wanted_tensors_are_read(tmp_path):
    torch.save({"model": tensors()}, tmp_path / "sam.pth")
    loaded = sam_decoder_state_dict(tmp_path / "sam.pth", WANTED)
    assert tuple(loaded) == WANTED
    assert all(torch.equal(loaded[name], tensors()[name]) for name in WANTED)


def test_a_file_of_another_model_is_refused_with_the_first_names(tmp_path):
    path = tmp_path / "clip.pt"
    torch.save({"visual.proj": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=f"{path} is not a complete SAM .* lacks w0, w1, w2"):
        sam_decoder_state_dict(path, [f"w{i}" for i in range(9)])
    with pytest.raises(WeightsError, match=r"and 4 more\.$"):
        sam_decoder_state_dict(path, [f"w{i}" for i in range(9)])


def test_every_single_tensor_of_a_block_is_required(tiny_cfg, tmp_path):
    (block, _) = build_sam_blocks(tiny_cfg)
    official = block.state_dict()
    for missing in official:
        path = tmp_path / "sam.pth"
        torch.save({name: value for name, value in official.items() if name != missing}, path)
        tiny_cfg.MODEL.SAM.WEIGHTS = str(path)
        with pytest.raises(WeightsError, match=rf"sam\.pth .* lacks {missing}\.$"):
            build_sam_blocks(tiny_cfg)
