"""CLIP alone as a meta-architecture."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F


@pytest.fixture
def model(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "ZeroShotCLIP"
    return build_model(tiny_cfg).eval()


def test_scores_are_a_softmax_over_cosines(model, vocabulary):
    image = torch.randint(0, 256, (3, 96, 96)).byte()
    with torch.no_grad():
        (result,) = model([{"image": image, "vocabulary": vocabulary, "height": 48, "width": 48}])
        pixels = (image.float() - model.pixel_mean) / model.pixel_std
        dense = model.clip.encode_image(pixels.unsqueeze(0)).dense[0]
        text = model.clip.encode_text(vocabulary.entries)[:, 0]
        cosines = torch.einsum("kc,chw->khw", text, F.normalize(dense, dim=0))
        logits = F.interpolate(model.clip.temperature * cosines[None], (48, 48), mode="bilinear")
        expected = logits[0].softmax(dim=0)
    torch.testing.assert_close(result["sem_seg"], expected)


def test_it_has_clips_weights_only_and_nothing_to_train(model, batch):
    assert all(name.startswith("clip.") for name in model.state_dict())
    with pytest.raises(RuntimeError, match="nothing to train"):
        model.train()(batch)


def test_windows_work_as_for_escnet(tiny_cfg, model, batch):
    tiny_cfg.TEST.SLIDING_WINDOW = True
    windowed = build_model(tiny_cfg).eval()
    windowed.load_state_dict(model.state_dict())
    with torch.no_grad():
        for inputs, result in zip(batch, windowed(batch)):
            assert result["sem_seg"].shape[1:] == (inputs["height"], inputs["width"])
            total = result["sem_seg"].sum(dim=0)
            torch.testing.assert_close(total, torch.ones_like(total))
