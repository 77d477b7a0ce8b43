from __future__ import annotations

import pytest
import torch

from escnet_d2.modeling.sam.build import build_sam_blocks
from escnet_d2.weights import WeightsError


@pytest.fixture
def official(tiny_cfg):
    """The tensors of a whole checkpoint."""
    torch.manual_seed(0)
    block = build_sam_blocks(tiny_cfg)[0]
    return {name: torch.randn_like(tensor) for name, tensor in block.state_dict().items()}


@pytest.fixture
def build(tiny_cfg, tmp_path, official):
    """Builds SAM blocks with the tensors of a file."""
    tiny_cfg.MODEL.SAM.WEIGHTS = str(tmp_path / "sam.pth")

    def build(tensors):
        torch.save({"model": tensors}, tmp_path / "sam.pth")
        return build_sam_blocks(tiny_cfg)

    return build


def test_every_block_gets_the_tensors_that_it_has(build, official):
    others = ("image_encoder.proj", "image_encoder.neck.0.weight")
    for block in build({**official, **dict.fromkeys(others, torch.zeros(9))}):
        assert all(torch.equal(t, official[name]) for name, t in block.state_dict().items())


def test_a_file_of_another_model_is_refused_with_the_first_name(build, official):
    message = rf"sam\.pth is not a complete SAM .* lacks \S+ and {len(official) - 1} more\.$"
    with pytest.raises(WeightsError, match=message):
        build({"visual.proj": torch.zeros(1)})


def test_every_single_tensor_of_a_block_is_required(build, official):
    for missing in official:
        with pytest.raises(WeightsError, match=rf"sam\.pth .* lacks {missing}\.$"):
            build({name: value for name, value in official.items() if name != missing})
