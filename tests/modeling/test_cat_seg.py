"""CATSeg as a whole: against plain formulas, and what the release's bugs would break."""

import json
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from escnet_d2.engine import load_config
from escnet_d2.modeling.meta_arch.cat_seg import CATSeg
from escnet_d2.structures import Vocabulary


def build(*opts):
    model = build_model(load_config("cat_seg_tiny", opts)).eval()
    # Nothing stays at zero or one: padding tokens and guidance start at zero.
    with torch.no_grad():
        for name, parameter in model.sem_seg_head.predictor.transformer.named_parameters():
            if "padding" in name:
                parameter.normal_()
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def segment(model, batch):
    with torch.no_grad():
        return [result["sem_seg"] for result in model.eval()(batch)]


def logits_of(model, image, vocabulary):
    """The release's way to whole images: normalize, pad with zeros to 32, squash."""
    mean = torch.tensor([122.7709383, 116.7460125, 104.09373615]).view(3, 1, 1)
    std = torch.tensor([68.5005327, 66.6321579, 70.3231630]).view(3, 1, 1)
    image = (image - mean) / std
    height, width = image.shape[1:]
    padded = torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32)
    padded[0, :, :height, :width] = image
    squashed = F.interpolate(padded, size=(96, 96), mode="bilinear", align_corners=False)
    text = model.sem_seg_head.encode_text(vocabulary.entries)
    return model.predict(squashed, text)


def test_whole_image_is_padded_squashed_and_resized_as_probabilities(model, batch):
    for inputs in batch:
        with torch.no_grad():
            scores = logits_of(model, inputs["image"], inputs["vocabulary"]).sigmoid()
        size = (inputs["height"], inputs["width"])
        expected = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)[0]
        got = segment(model, [inputs])[0]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_loss_is_binary_cross_entropy_with_unlabeled_pixels_as_negatives(model, batch):
    model.train()
    inputs = batch[0]
    inputs["sem_seg"][:9] = 255
    logits = logits_of(model, inputs["image"], inputs["vocabulary"])
    target = inputs["sem_seg"]
    one_hot = torch.zeros(1, 5, *target.shape)
    for k in range(5):
        one_hot[0, k] = target == k
    resized = F.interpolate(logits, size=target.shape, mode="bilinear", align_corners=False)
    expected = F.binary_cross_entropy_with_logits(resized, one_hot)
    losses = model([inputs])
    assert list(losses) == ["loss_sem_seg"]
    torch.testing.assert_close(losses["loss_sem_seg"], expected)


# Distributed training waits for a gradient of every weight, the padding's too where no class is
# missing.
@pytest.mark.parametrize("pad_length", [2, 256])
@pytest.mark.parametrize("attention", ["linear", "full"])
def test_gradients_reach_what_trains(batch, pad_length, attention):
    model = build(
        "MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "attention",
        "MODEL.SEM_SEG_HEAD.PAD_LENGTH", pad_length,
        "MODEL.SEM_SEG_HEAD.ATTENTION_TYPE", attention,
    )  # fmt: skip
    sum(model.train()(batch).values()).backward()
    open_ = {n for n, p in model.named_parameters() if p.requires_grad}
    assert open_ == {n for n, p in model.named_parameters() if p.grad is not None}
    zero = {n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any()}
    # Trained in name only, in the release too.
    last = "sem_seg_head.predictor.clip_model.visual.transformer.resblocks.3.attn.q_proj_weight"
    unused = {n for n in open_ if "padding" in n and pad_length == 2}
    assert zero == {last, *unused}


def test_text_is_fresh_after_training_and_with_other_classes(batch):
    model = build()
    before = segment(model, batch[:1])[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sum(model.train()(batch).values()).backward()
    optimizer.step()
    after = segment(model, batch[:1])[0]
    fresh = build()
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(after, segment(fresh, batch[:1])[0])
    assert not torch.allclose(after, before)
    other = Vocabulary.from_classes(["house", "tree"])
    assert len(segment(model, [{**batch[0], "vocabulary": other}])[0]) == 2


def test_pruning_keeps_the_likeliest_and_changes_nothing_below_its_number(model, batch):
    aggregator = model.sem_seg_head.predictor.transformer
    inputs = batch[0]
    with torch.no_grad():
        whole = logits_of(model, inputs["image"], inputs["vocabulary"])
        aggregator.pad_length = 3
        try:
            pruned = logits_of(model, inputs["image"], inputs["vocabulary"])
            # Rows of classes that are not pruned at all: no padding, no loss of classes.
            kept = (pruned[0] > -100).flatten(1).any(dim=1)
            assert kept.sum() == 3
            names = [inputs["vocabulary"].class_names[k] for k in kept.nonzero().flatten()]
            alone = logits_of(model, inputs["image"], Vocabulary.from_classes(names))
        finally:
            aggregator.pad_length = 256
    assert (pruned[0, ~kept] == -100).all()
    assert not torch.allclose(whole[0, kept], pruned[0, kept])
    # The attention's own padding stays at 256, with the same classes.
    torch.testing.assert_close(pruned[0, kept], alone[0], rtol=1e-4, atol=1e-5)


def test_padding_makes_results_depend_on_its_length(batch):
    model = build("MODEL.SEM_SEG_HEAD.PAD_LENGTH", 8)
    other = build("MODEL.SEM_SEG_HEAD.PAD_LENGTH", 64)
    other.load_state_dict(model.state_dict())
    a, b = (segment(m, batch[:1])[0] for m in (model, other))
    assert not torch.allclose(a, b, atol=1e-4)
    names = [n for n in build("MODEL.SEM_SEG_HEAD.PAD_LENGTH", 0).state_dict() if "padding" in n]
    assert names == []


def test_several_sentences_are_channels_of_the_first_convolution(batch):
    model = build("MODEL.PROMPT_ENSEMBLE_TYPE", "imagenet_select")
    assert model.sem_seg_head.predictor.transformer.conv1.in_channels == 8
    text = model.sem_seg_head.encode_text(batch[0]["vocabulary"].entries)
    assert text.shape == (5, 8, 64)
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(5, 8))
    assert torch.isfinite(segment(model, batch)[1]).all()


def test_sliding_window_is_another_prediction_for_each_image(batch):
    model = build("TEST.SLIDING_WINDOW", True)
    results = segment(model, batch)
    assert [scores.shape[1:] for scores in results] == [(x["height"], x["width"]) for x in batch]
    alone = segment(model, batch[1:])[0]
    torch.testing.assert_close(results[1], alone)
    whole = build()
    whole.load_state_dict(model.state_dict())
    assert not torch.allclose(alone, segment(whole, batch[1:])[0], atol=1e-4)


def test_entries_meet_after_resizing(batch):
    vocabulary = Vocabulary.from_classes(
        ["cat, kitten", "dog"], synonyms="max", background="threshold", background_threshold=0.5
    )
    entries = Vocabulary.from_classes(["cat", "kitten", "dog"])
    model = build()
    inputs = {**batch[0], "vocabulary": vocabulary}
    parts = segment(model, [{**inputs, "vocabulary": entries}])[0]
    expected = torch.stack(
        [torch.maximum(parts[0], parts[1]), parts[2], torch.full_like(parts[0], 0.5)]
    )
    torch.testing.assert_close(segment(model, [inputs])[0], expected)
    model.label_map_only = True
    (result,) = model([inputs])
    torch.testing.assert_close(result["score_map"], expected.amax(dim=0))
    assert (result["label_map"] == expected.argmax(dim=0)).all()


def test_class_files_of_the_release_are_the_default_vocabularies(tmp_path, batch):
    for name, classes in (("train", ["cat, kitten", "dog"]), ("test", ["sky", "grass", "tree"])):
        (tmp_path / f"{name}.json").write_text(json.dumps(classes))
    model = build(
        "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON", str(tmp_path / "train.json"),
        "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON", str(tmp_path / "test.json"),
    )  # fmt: skip
    inputs = {key: value for key, value in batch[0].items() if key != "vocabulary"}
    assert len(segment(model, [inputs])[0]) == 3
    assert model.train_vocabulary.entries == (("cat",), ("dog",))
    model.train()
    inputs["sem_seg"] = inputs["sem_seg"] % 2
    own, given = model([inputs]), model([{**inputs, "vocabulary": model.train_vocabulary}])
    torch.testing.assert_close(own["loss_sem_seg"], given["loss_sem_seg"])


def test_aggregator_equals_plain_formulas(model):
    """Class by class; the Swin blocks, the attention and the pairs of convolutions as they are."""
    part = model.eval().sem_seg_head.predictor.transformer
    to_guidance, to_text = part.guidance_projection[0], part.text_guidance_projection[0]
    image = torch.randn(2, to_guidance.in_channels, 6, 5)
    text = torch.randn(3, part.conv1.in_channels, to_text.in_features)
    to_skips = [layer[0] for layer in part.decoder_guidance_projection]
    skips = [torch.randn(2, to_skips[i].in_channels, 12 << i, 10 << i) for i in (0, 1)]

    directions = F.normalize(text, dim=-1)
    cosines = torch.einsum("bdhw,kpd->bkphw", F.normalize(image, dim=1), directions)
    kernel, bias = part.conv1.parameters()
    maps = [F.conv2d(cosines[:, k], kernel, bias, padding=3).movedim(1, -1) for k in range(3)]
    x, guidance = torch.stack(maps, dim=1), F.relu(to_guidance(image)).movedim(1, -1)
    text_guidance = F.relu(to_text(F.normalize(directions.mean(dim=1), dim=-1))).expand(2, -1, -1)
    for layer in part.layers:
        x = layer["attention"](layer["swin_block"](x, guidance), text_guidance)
    got = part(image, text, skips)
    assert got.shape == (2, 3, 24, 20)
    for k in range(3):
        maps = x[:, k].movedim(-1, 1)
        for block, to_skip, skip in zip((part.decoder1, part.decoder2), to_skips, skips):
            joined = torch.cat([block.up(maps), F.relu(to_skip(skip))], dim=1)
            maps = block.conv([joined.unsqueeze(1)])[:, 0]
        torch.testing.assert_close(got[:, k], part.head(maps)[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("depth", "blocks"), [(12, (3, 7)), (24, (7, 15)), (4, (0, 1))])
def test_skips_end_the_first_and_the_second_third_of_clip(depth, blocks):
    transformer = SimpleNamespace(width=8, resblocks=range(depth))
    visual = SimpleNamespace(transformer=transformer)
    clip = SimpleNamespace(visual=visual, named_parameters=dict)
    model = CATSeg(
        sem_seg_head=SimpleNamespace(predictor=SimpleNamespace(clip_model=clip)),
        finetune="none",
        skip_dims=(0, 0),
        dense_residual="cls",
        pixel_mean=torch.zeros(3),
        pixel_std=torch.ones(3),
        views=SimpleNamespace(resolution=(96, 96)),
    )
    assert model._skip_blocks == blocks
