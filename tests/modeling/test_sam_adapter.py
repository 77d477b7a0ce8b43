"""The adapter from CLIP's features to SAM's: its fit, SAM's image encoder, the program."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn
from torch.nn import functional as F

from escnet_d2.modeling.sam import (
    AdapterFit,
    SamAdapter,
    build_sam_adapter,
    build_sam_image_encoder,
)
from escnet_d2.structures import ClipFeatures
from escnet_d2.weights import WeightsError

C = 64


@pytest.fixture
def sam():
    """A SAM of the decoder's sizes of escnet_tiny; the second block of its encoder is global."""
    torch.manual_seed(1)
    encoder = ImageEncoderViT(
        img_size=64,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=2,
        mlp_ratio=3,
        out_chans=C,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=4,
        global_attn_indexes=(1,),
    )
    for name, parameter in encoder.named_parameters():
        if "pos" in name or name.startswith("neck.3"):
            nn.init.normal_(parameter)
    transformer = TwoWayTransformer(depth=2, embedding_dim=C, num_heads=4, mlp_dim=128)
    return Sam(
        encoder,
        PromptEncoder(C, image_embedding_size=(8, 8), input_image_size=(64, 64), mask_in_chans=16),
        MaskDecoder(transformer_dim=C, transformer=transformer, iou_head_hidden_dim=C),
    ).eval()


@pytest.fixture
def weights(sam, tmp_path):
    path = tmp_path / "sam.pth"
    torch.save(sam.state_dict(), path)
    return str(path)


def test_image_encoder_of_any_size_equals_segment_anything(sam, weights):
    ours = build_sam_image_encoder(weights)
    assert not any(p.requires_grad for p in ours.parameters())
    images = torch.randint(0, 256, (2, 3, 64, 64))
    with torch.no_grad():
        expected = sam.image_encoder(sam.preprocess(images.float()))
        scale, shift = (getattr(ours.norm, name).view(-1, 1, 1) for name in ("weight", "bias"))
        got = ours(images)
        torch.testing.assert_close(got * scale + shift, expected, rtol=1e-4, atol=1e-4)
        larger = F.interpolate(images.float(), size=(96, 128), mode="nearest")
        assert ours(larger).shape == got.shape


def test_a_file_without_image_encoder_is_named(sam, tmp_path):
    path = tmp_path / "decoder.pth"
    torch.save(sam.mask_decoder.state_dict(), path)
    with pytest.raises(WeightsError, match="decoder.pth holds no image encoder of SAM"):
        build_sam_image_encoder(str(path))


def random_features(number):
    return ClipFeatures(torch.randn(number, 5, 4, 6), (torch.randn(number, 3, 4, 6),) * 2)


def test_fit_finds_a_linear_map_and_says_how_well():
    torch.manual_seed(2)
    weight, bias, norm = torch.randn(C, 5, 3, 3), torch.randn(C), nn.LayerNorm(C)
    nn.init.normal_(norm.weight)
    fit, other = AdapterFit(), AdapterFit()
    for part in (fit, fit, other):
        features = random_features(8)
        target = F.conv2d(features.dense, weight, bias, padding=1)
        # SAM's grid is twice as fine.
        part.add(features, F.interpolate(target, scale_factor=2))
    found = fit.solve(ridge=1e-9)
    assert fit.explained(found) == pytest.approx(1, abs=1e-3)
    assert other.explained(found) == pytest.approx(1, abs=1e-3)
    assert fit.num_patches == 2 * 8 * 24
    adapter = SamAdapter(11, C)
    adapter.take(found, norm)
    features = random_features(1)
    mapped = F.conv2d(features.dense, weight, bias, padding=1).permute(0, 2, 3, 1)
    expected = F.layer_norm(mapped, (C,), norm.weight, norm.bias, eps=1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(adapter(features), expected, rtol=1e-3, atol=1e-3)
    # Noise explains nothing of other noise.
    noise = AdapterFit()
    noise.add(random_features(8), torch.randn(8, C, 4, 6))
    assert other.explained(noise.solve()) < 0.2


def test_a_frozen_adapter_trains_nothing():
    features = random_features(1)
    features.dense.requires_grad_(True)
    assert SamAdapter(11, C)(features).requires_grad
    assert not SamAdapter(11, C).requires_grad_(False)(features).requires_grad


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.RandomState(0)
    for index in range(4):
        pixels = rng.randint(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_the_program_writes_what_training_reads(
    load_program, tiny_cfg, weights, photos, tmp_path, capsys
):
    program = load_program("tools/align_sam.py")
    output = tmp_path / "new/adapter.safetensors"
    arguments = ["--config-file", "escnet_tiny", "--input", str(photos), "--output", str(output)]
    program.main([*arguments, "--opts", "MODEL.SAM.WEIGHTS", weights])
    assert "of the variance of SAM's features" in capsys.readouterr().out

    tiny_cfg.MODEL.SAM.update({"WEIGHTS": weights, "ADAPTER": str(output), "TRAIN": False})
    channels = load_file(str(output))["conv.weight"].shape[1]
    adapter = build_sam_adapter(tiny_cfg, channels)
    assert not any(p.requires_grad for p in adapter.parameters())
    torch.testing.assert_close(dict(adapter.state_dict()), load_file(str(output)))
    with pytest.raises(WeightsError, match="ADAPTER.*was not fitted to this CLIP and SAM"):
        build_sam_adapter(tiny_cfg, channels + 1)
    tiny_cfg.MODEL.SAM.ADAPTER = ""
    with pytest.raises(ValueError, match="ADAPTER is empty.*tools/align_sam.py"):
        build_sam_adapter(tiny_cfg, channels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "1"], "Two images or more are needed, 1 were given."),
        (["--images", "-1"], "--images must be 0 or more"),
        (["--opts", "MODEL.SAM.WEIGHTS", "random"], "has no SAM to align"),
    ],
)
def test_a_mistake_is_one_line(load_program, weights, photos, tmp_path, capsys, options, message):
    program = load_program("tools/align_sam.py")
    arguments = ["--config-file", "escnet_tiny", "--input", str(photos)]
    arguments += ["--output", str(tmp_path / "adapter.safetensors"), *options]
    if "--opts" not in arguments:
        arguments += ["--opts", "MODEL.SAM.WEIGHTS", weights]
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
