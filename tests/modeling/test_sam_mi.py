"""SAMMI and TwoStageSAM as a whole: masks guide, and say nothing before training."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from escnet_d2.engine import TrainingCheckpointer, load_config
from escnet_d2.modeling.sam_mi import MaskInjection, PointPrompter

GIVEN = ("MODEL.MASKS.SOURCE", "truth")
TINY_CONVNEXT = (
    "MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED", "tiny_convnext",
    "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION", [4, 4],
    "MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_DIMS", [48, 32],
)  # fmt: skip


def build(*opts, config="sam_mi_tiny", trained=False):
    model = build_model(load_config(config, opts)).eval()
    if trained:
        for name, parameter in model.named_parameters():
            if "injection" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return model


def segment(model, batch):
    with torch.no_grad():
        return [result["sem_seg"] for result in model.eval()(batch)]


@pytest.fixture
def masked(batch):
    """The batch with five masks for one image and two for the other."""
    for inputs, number in zip(batch, (5, 2)):
        inputs["masks"] = torch.zeros(number, *inputs["image"].shape[1:], dtype=torch.bool)
        for index, mask in enumerate(inputs["masks"]):
            mask[10 * index : 10 * index + 30, 12 * index : 12 * index + 40] = True
    return batch


@pytest.mark.parametrize("source", ["sam", "truth"])
@pytest.mark.parametrize("sliding", [False, True])
def test_training_starts_from_the_base_models_answer(masked, source, sliding):
    opts = ("TEST.SLIDING_WINDOW", sliding)
    model = build("MODEL.MASKS.SOURCE", source, *opts)
    base = build("MODEL.META_ARCHITECTURE", "CATSeg", *opts)
    base.load_state_dict(model.state_dict(), strict=False)
    for a, b in zip(segment(model, masked), segment(base, masked)):
        # Windows are cut of an image with its masks, and resized by another path.
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6 if sliding else 0)


@pytest.mark.parametrize("source", ["sam", "truth"])
def test_a_cat_seg_checkpoint_starts_the_training(masked, source, tmp_path, caplog):
    base = build("MODEL.META_ARCHITECTURE", "CATSeg")
    with torch.no_grad():
        for parameter in base.sem_seg_head.predictor.transformer.parameters():
            parameter.mul_(1.1)
    TrainingCheckpointer(base, str(tmp_path)).save("cat_seg")
    model = build("MODEL.MASKS.SOURCE", source)
    TrainingCheckpointer(model).load(str(tmp_path / "cat_seg.pth"))
    assert "CAT-Seg's" in caplog.text
    for a, b in zip(segment(model, masked), segment(base, masked)):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_an_incomplete_injection_is_refused(tmp_path):
    state = build(*GIVEN).state_dict()
    left_out = next(name for name in state if "injection.low" in name)
    del state[left_out]
    torch.save({"model": state}, tmp_path / "part.pth")
    with pytest.raises(RuntimeError, match=f"{left_out} is missing in the file"):
        TrainingCheckpointer(build(*GIVEN)).load(str(tmp_path / "part.pth"))


@pytest.mark.parametrize("sliding", [False, True])
def test_masks_matter_and_have_no_order(masked, sliding):
    model = build(*GIVEN, "TEST.SLIDING_WINDOW", sliding, trained=True)
    scores = segment(model, masked)
    empty = [{**x, "masks": torch.zeros_like(x["masks"])} for x in masked]
    none = [{**x, "masks": x["masks"][:0]} for x in masked]
    shuffled = [{**x, "masks": x["masks"].flip(0)} for x in masked]
    padded = [{**x, "masks": torch.cat([x["masks"], e["masks"]])} for x, e in zip(masked, empty)]
    for index, own in enumerate(scores):
        for other in (shuffled, padded):
            torch.testing.assert_close(segment(model, other)[index], own, rtol=1e-4, atol=1e-5)
        # Of one image at a time: another number of masks beside it changes nothing.
        torch.testing.assert_close(
            segment(model, masked[index : index + 1])[0], own, rtol=1e-4, atol=1e-5
        )
        assert not torch.allclose(segment(model, none)[index], own, atol=1e-3)
        torch.testing.assert_close(
            segment(model, none)[index], segment(model, empty)[index], rtol=1e-4, atol=1e-5
        )


def test_class_order_and_chunks_change_nothing(masked, vocabulary):
    model = build(*GIVEN, trained=True)
    own = segment(model, masked[:1])[0]
    order = [3, 1, 4, 0, 2]
    turned = [{**masked[0], "vocabulary": vocabulary.subset(order)}]
    torch.testing.assert_close(segment(model, turned)[0], own[order], rtol=1e-4, atol=1e-5)
    chunked = build(*GIVEN, "TEST.CLASS_CHUNK_SIZE", 2)
    chunked.load_state_dict(model.state_dict())
    torch.testing.assert_close(segment(chunked, masked[:1])[0], own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("high", ["mask", "edge"])
def test_every_open_weight_learns_and_sam_does_not(batch, high):
    model = build("MODEL.SAM_MI.HIGH", high, trained=True).train()
    losses = model(batch)
    assert set(losses) == {"loss_sem_seg", "loss_prompter"}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
        if "injection" in name or "prompter" in name:
            assert parameter.grad.any(), name
    assert not any("image_encoder" in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("opts", "parts"),
    [
        ((), {"input.intra", "input.inter", "output.intra", "output.inter", "0", "1"}),
        (("LOW", []), {"0", "1"}),
        (("HIGH", "none", "LOW_AT", ["output"]), {"output.intra", "output.inter"}),
        (("HIGH", "none", "LOW", ["inter"]), {"input.inter", "output.inter"}),
    ],
)
def test_each_part_can_be_left_out(opts, parts):
    keys = [f"MODEL.SAM_MI.{item}" if index % 2 == 0 else item for index, item in enumerate(opts)]
    injection = build(*GIVEN, *keys).sem_seg_head.predictor.transformer.injection
    names = {".".join(name.split(".")[1:3]) for name in injection.state_dict()}
    assert {name.replace(".project", "") for name in names} == parts


def test_the_prompter_starts_from_clips_correlation_and_leaves_clip_alone():
    prompter = PointPrompter(8)
    dense, text = torch.randn(1, 8, 3, 3, requires_grad=True), torch.randn(4, 1, 8)
    logits = prompter(dense, text, torch.tensor(10.0))
    unit = torch.nn.functional.normalize
    cosine = torch.einsum("bdhw,kd->bkhw", unit(dense, dim=1), unit(text[:, 0], dim=1))
    torch.testing.assert_close(logits, 10 * cosine)
    logits.sum().backward()
    assert dense.grad is None and prompter.pixel_head.weight.grad.any()


def test_means_inside_masks_reach_low_and_details_reach_high():
    injection = MaskInjection(
        dim=4, decoder_dims=[4, 2], num_heads=1, low=["intra"], low_at=["output"], high="mask"
    )
    x, correlation = torch.randn(1, 2, 4, 4, 4), torch.randn(1, 1, 2, 4, 4)
    masks = torch.zeros(1, 16, 16)
    masks[0, :8] = 1
    assert injection.at_low("input", x, correlation, [masks]) is x
    torch.nn.init.eye_(injection.low["output"].intra.projection.weight)
    out = injection.at_low("output", x, correlation, [masks])
    upper = x[:, :, :2].mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(out[:, :, :2], x[:, :, :2] + upper)
    assert torch.equal(out[:, :, 2:], x[:, :, 2:])
    maps = torch.randn(1, 2, 4, 8, 8)
    torch.nn.init.eye_(injection.high[0].project.weight)
    detailed = injection.at_high(0, maps, [masks])
    upper = maps[..., :4, :] - maps[..., :4, :].mean(dim=(3, 4), keepdim=True)
    torch.testing.assert_close(detailed[..., :4, :], maps[..., :4, :] + upper)
    assert torch.equal(detailed[..., 4:, :], maps[..., 4:, :])


def test_a_convnext_serves_as_well(batch):
    model = build(*GIVEN, *TINY_CONVNEXT, trained=True)
    for inputs in batch:
        inputs["masks"] = torch.ones(1, *inputs["image"].shape[1:], dtype=torch.bool)
    scores = segment(model, batch)
    assert scores[0].shape == (5, batch[0]["height"], batch[0]["width"])
    sum(model.train()(batch).values()).backward()
    visual = model.sem_seg_head.predictor.clip_model.visual
    assert all(p.grad is not None for p in visual.parameters() if p.requires_grad)


def test_what_is_missing_is_named(batch):
    model = build(*GIVEN)
    batch[0]["file_name"] = "photo.jpg"
    with pytest.raises(ValueError, match="photo.jpg comes without 'masks'"):
        segment(model, batch)
    batch[0]["masks"] = torch.zeros(1, 5, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"photo.jpg is \(96, 120\), but its 'masks' are \(5, 5\)"):
        segment(model, batch[:1])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("LOW", ["all"], "SAM_MI.LOW must name any of intra, inter"),
        ("LOW_AT", ["middle"], "SAM_MI.LOW_AT must name any of input, output"),
        ("HIGH", "blur", "SAM_MI.HIGH must be one of mask, edge, none"),
        ("AGGREGATION", "flat", "SAM_MI.AGGREGATION must be one of shallow, deep, none"),
    ],
)
def test_bad_options_are_refused(key, value, message):
    with pytest.raises(ValueError, match=message):
        build(*GIVEN, f"MODEL.SAM_MI.{key}", value)


def test_training_looks_at_some_classes_and_numbers_labels_as_they_are(masked, vocabulary):
    for inputs in masked:
        inputs["sem_seg"] = inputs["sem_seg"].clamp(max=1)
    model = build(*GIVEN, "MODEL.SEM_SEG_HEAD.TRAIN_CLASSES", 2, trained=True).train()
    loss = model(masked)["loss_sem_seg"]
    few = [{**x, "vocabulary": vocabulary.subset([0, 1])} for x in masked]
    torch.testing.assert_close(loss, model(few)["loss_sem_seg"])


# -- two stages --


@pytest.fixture(scope="module")
def two_stage():
    return build("MODEL.META_ARCHITECTURE", "TwoStageSAM", *GIVEN, config="escnet_tiny")


def test_two_stages_name_each_mask_by_its_mean(two_stage, masked, vocabulary):
    inputs = masked[0]
    inputs["masks"] = torch.zeros(2, *inputs["image"].shape[1:], dtype=torch.bool)
    inputs["masks"][0, :48], inputs["masks"][1, 48:, :60] = True, True
    scores = segment(two_stage, [{**inputs, "height": 96, "width": 120}])[0]
    alone = build("MODEL.META_ARCHITECTURE", "ZeroShotCLIP", config="escnet_tiny")
    alone.load_state_dict(two_stage.state_dict())
    # Cells in no mask keep CLIP's map; those of a mask have one label.
    own = segment(alone, [{**inputs, "height": 96, "width": 120}])[0]
    torch.testing.assert_close(scores[:, 56:, 68:], own[:, 56:, 68:])
    for part in (scores[:, :40], scores[:, 56:, :52]):
        assert part.flatten(1).std(dim=1).max() < 1e-6
    torch.testing.assert_close(scores.sum(dim=0), torch.ones(96, 120))


def test_two_stages_without_masks_are_clip(two_stage, masked):
    alone = build("MODEL.META_ARCHITECTURE", "ZeroShotCLIP", config="escnet_tiny")
    alone.load_state_dict(two_stage.state_dict())
    none = [{**x, "masks": x["masks"][:0]} for x in masked]
    for a, b in zip(segment(two_stage, none), segment(alone, masked)):
        torch.testing.assert_close(a, b)
    with pytest.raises(RuntimeError, match="TwoStageSAM has nothing to train"):
        two_stage.train()(none)
    two_stage.eval()
