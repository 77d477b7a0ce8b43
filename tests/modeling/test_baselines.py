"""Properties and refusals that CATSeg, SED and SAMMI have in common."""

import pytest
import torch
from detectron2.modeling import build_model

from escnet_d2.engine import load_config

ALL = pytest.mark.parametrize("config", ["cat_seg_tiny", "sed_tiny", "sam_mi_tiny"])


def build(config, *opts, like=None):
    model = build_model(load_config(config, opts)).eval()
    if like is not None:
        model.load_state_dict(like.state_dict())
    return model


def segment(model, batch):
    with torch.no_grad():
        return [result["sem_seg"] for result in model.eval()(batch)]


@ALL
def test_every_image_of_a_batch_gets_its_own_result(config, batch):
    model = build(config)
    together = segment(model, batch)
    for inputs, scores in zip(batch, together):
        assert scores.shape == (5, inputs["height"], inputs["width"])
        torch.testing.assert_close(scores, segment(model, [inputs])[0], rtol=1e-4, atol=1e-6)


@ALL
def test_class_chunks_change_nothing(config, batch):
    plain = build(config)
    chunked = build(config, "TEST.CLASS_CHUNK_SIZE", 2, like=plain)
    for a, b in zip(segment(plain, batch), segment(chunked, batch)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@ALL
def test_pooling_of_training_is_not_that_of_testing(config, batch):
    model = build(config)

    def results(*opts):
        other = build(config, *opts, like=model)
        scores = segment(other, batch[:1])[0]
        return other.train()(batch)["loss_sem_seg"].detach(), scores

    keys = ("MODEL.SEM_SEG_HEAD.POOLING_SIZES", "TEST.POOLING_SIZES")
    loss, scores = results()
    # The defaults: as the release trains, and as it was evaluated.
    same_loss, same_scores = results(keys[0], [2, 2], keys[1], [1, 1])
    assert torch.equal(loss, same_loss) and torch.equal(scores, same_scores)
    other_loss, same_scores = results(keys[0], [1, 1])
    assert torch.equal(scores, same_scores) and not torch.equal(loss, other_loss)
    same_loss, other_scores = results(keys[1], [2, 2])
    assert torch.equal(loss, same_loss) and not torch.allclose(scores, other_scores, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "key", "value", "message"),
    [
        ("cat_seg_tiny", "CLIP_PRETRAINED", "ViT-Z", "CLIP_PRETRAINED must be one of ViT-B/16"),
        ("cat_seg_tiny", "CLIP_FINETUNE", "half", "CLIP_FINETUNE must be one of attention"),
        ("cat_seg_tiny", "PROMPT_DEPTH", 2, "PROMPT_LENGTH must be 0"),
        ("cat_seg_tiny", "FEATURE_RESOLUTION", [12], r"FEATURE_RESOLUTION must be \(rows"),
        ("cat_seg_tiny", "DECODER_DIMS", [16], "need two values each"),
        ("cat_seg_tiny", "MODEL.PROMPT_ENSEMBLE_TYPE", "many", "ENSEMBLE_TYPE must be one of sing"),
        ("cat_seg_tiny", "TEST.WINDOW_SIZE", 200, "WINDOW_SIZE must fit into TEST.WINDOW_IMAGE_"),
        ("cat_seg_tiny", "ATTENTION_TYPE", "flat", "ATTENTION_TYPE must be one of linear, full"),
        ("cat_seg_tiny", "POOLING_SIZES", [2], "SEM_SEG_HEAD.POOLING_SIZES must be two"),
        ("cat_seg_tiny", "TEST.POOLING_SIZES", [0, 1], "TEST.POOLING_SIZES must be two numbers of"),
        ("cat_seg_tiny", "TEST.CLASS_CHUNK_SIZE", -2, "CLASS_CHUNK_SIZE must be -1 or more"),
        ("cat_seg_tiny", "MODEL.CLIP.DENSE_RESIDUAL", "none", "RESIDUAL must be one of cls, token"),
        ("cat_seg_tiny", "INPUT.FORMAT", "BGR", "INPUT.FORMAT must be RGB"),
        ("cat_seg_tiny", "IGNORE_VALUE", 0, "IGNORE_VALUE must be 255"),
        ("cat_seg_tiny", "TEXT_GUIDANCE_DIM", 512, "TEXT_GUIDANCE_DIM must be 64"),
        ("cat_seg_tiny", "APPEARANCE_GUIDANCE_DIM", 48, "APPEARANCE_GUIDANCE_DIM must be 64"),
        ("cat_seg_tiny", "APPEARANCE_GUIDANCE_DIM", 0, "PROJ_DIM must be 0 together"),
        ("cat_seg_tiny", "DECODER_GUIDANCE_DIMS", [0, 0], "PROJ_DIMS must be 0 together"),
        ("cat_seg_tiny", "DECODER_GUIDANCE_PROJ_DIMS", [64, 8], "narrower than what they join"),
        ("cat_seg_tiny", "NUM_HEADS", 3, r"NUM_HEADS must divide what it splits, \[32\]"),
        ("sed_tiny", "CLIP_PRETRAINED", "escnet_tiny", "has no ConvNeXt image tower"),
        ("sed_tiny", "CNEXT_TYPE", "V3", "CNEXT_TYPE must be one of V1, V2, Swin"),
        ("sed_tiny", "KERNEL_SIZE", [3, 4, 5], "KERNEL_SIZE must be odd, got 4"),
        ("sed_tiny", "DECODER_GUIDANCE_DIMS", [1, 2, 3], r"stages, \[48, 32, 24\]"),
        ("sed_tiny", "IN_FEATURES", ["res5"], "IN_FEATURES of SED must be"),
        ("sed_tiny", "TEST.TOPK", 0, "TEST.TOPK must be 1 or more"),
        ("sed_tiny", "TEXT_GUIDANCE_DIM", 48, "TEXT_GUIDANCE_DIM must be 64"),
        ("sed_tiny", "NUM_HEADS", 3, r"must divide what it splits, \[32, 32, 16\]"),
        ("sed_tiny", "DECODER_DIMS", [32, 9, 8], r"divide what it splits, \[32, 32, 9\]"),
    ],
)
def test_wrong_values_are_refused_by_key(config, key, value, message):
    key = key if "." in key else f"MODEL.SEM_SEG_HEAD.{key}"
    with pytest.raises(ValueError, match=message):
        build(config, key, value)
