"""SED as a whole: against plain formulas, with and without early rejection."""

import open_clip
import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from escnet_d2.engine import load_config
from escnet_d2.modeling.clip import build_clip_model
from escnet_d2.modeling.clip.convnext import pyramid_features, stage_dims
from escnet_d2.modeling.sed.convnext_block import ConvNextBlock
from escnet_d2.structures import Vocabulary


def build(*opts):
    return build_model(load_config("sed_tiny", opts)).eval()


def segment(model, batch):
    with torch.no_grad():
        return [result["sem_seg"] for result in model.eval()(batch)]


def test_dense_features_of_one_cell_are_open_clips_embedding():
    model = build_clip_model("tiny_convnext", "random", split_attention=False).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        features = pyramid_features(model.visual, images)
        # open_clip averages the cells of the last stage; here there is one.
        expected = model.encode_image(images)
    torch.testing.assert_close(features.dense[:, :, 0, 0], expected, rtol=1e-4, atol=1e-5)
    assert [tuple(stage.shape[1:]) for stage in features.intermediate] == [
        (24, 8, 8),
        (32, 4, 4),
        (48, 2, 2),
        (64, 1, 1),
    ]
    assert stage_dims(model.visual) == (24, 32, 48, 64)
    # Cells do not mix after the last stage.
    with torch.no_grad():
        wide = pyramid_features(model.visual, torch.randn(1, 3, 64, 96))
        cell = wide.intermediate[-1][:, :, 1:2, 2:3]
        alone = model.visual.head(model.visual.trunk.head(cell))
    torch.testing.assert_close(wide.dense[:, :, 1, 2], alone, rtol=1e-4, atol=1e-5)


def test_sentences_are_averaged_over_synonyms_but_kept_apart():
    model = build()
    entries = Vocabulary.from_classes(["cat, kitten", "dog"], synonyms="mean").entries
    text = model.sem_seg_head.encode_text(entries)
    clip, templates = model.sem_seg_head.predictor.clip_model, model.sem_seg_head.text.templates
    tokenizer = open_clip.get_tokenizer("tiny_convnext")
    with torch.no_grad():
        for p, template in enumerate(templates):
            parts = [
                F.normalize(clip.encode_text(tokenizer([template.format(name)])), dim=-1)
                for name in ("cat", "kitten")
            ]
            expected = F.normalize(sum(parts) / 2, dim=-1)[0]
            torch.testing.assert_close(text[0, p], expected, rtol=1e-4, atol=1e-5)
    assert text.shape == (2, 8, 64)


def test_images_are_padded_in_training_only(batch):
    model = build()
    seen = []
    hook = model.sem_seg_head.predictor.clip_model.visual.trunk.stem.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    image = model._normalize(batch[1]["image"])
    segment(model, batch[1:])
    model.train()(batch[1:])
    hook.remove()
    options = {"size": (128, 128), "mode": "bilinear", "align_corners": False}
    torch.testing.assert_close(seen[0], F.interpolate(image[None], **options))
    padded = F.pad(image, (0, 96 - 90, 0, 96 - 70))
    torch.testing.assert_close(seen[1], F.interpolate(padded[None], **options))


def test_four_losses_of_one_form(batch):
    model = build().train()
    torch.manual_seed(0)
    losses = model(batch[:1])
    names = ["loss_sem_seg", *(f"loss_sem_seg_aux{i}" for i in (1, 2, 3))]
    assert list(losses) == names
    vocabulary, target = batch[0]["vocabulary"], batch[0]["sem_seg"]
    text = model.sem_seg_head.encode_text(vocabulary.entries)
    images = model.views.squash([model._normalize(batch[0]["image"])])
    features, skips = model._features(images)
    final, early = model.sem_seg_head.predictor.transformer(features.dense, text, skips)
    one_hot = torch.stack([(target == k).float() for k in range(5)])[None]
    sides = []
    for name, logits in zip(names, [final, *early]):
        sides.append(logits.shape[-1])
        resized = F.interpolate(logits, size=target.shape, mode="bilinear", align_corners=False)
        expected = F.binary_cross_entropy_with_logits(resized, one_hot)
        torch.testing.assert_close(losses[name], expected)
    assert sides == [32, 4, 8, 16]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_what_trains(batch, checkpointing):
    model = build("MODEL.CLIP.GRADIENT_CHECKPOINTING", checkpointing).train()
    sum(model(batch).values()).backward()
    open_ = {n for n, p in model.named_parameters() if p.requires_grad}
    assert open_ == {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    # Heads on earlier levels teach nothing but themselves.
    model.zero_grad()
    model(batch)["loss_sem_seg_aux1"].backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    prefix = "sem_seg_head.predictor.transformer.head0"
    assert reached == {f"{prefix}.weight", f"{prefix}.bias"}


def test_heads_alone_can_be_trained(batch):
    model = build("MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "fast_infer").train()
    losses = model(batch)
    assert list(losses) == [f"loss_sem_seg_aux{i}" for i in (1, 2, 3)]
    heads = {n.split(".")[-2] for n, p in model.named_parameters() if p.requires_grad}
    assert heads == {"head0", "head1", "head2"}


@pytest.mark.parametrize(("policy", "part"), [("conv", "conv"), ("full_res5", "stages.3")])
def test_policies_open_parts_of_the_image_tower(policy, part):
    clip = build("MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", policy).sem_seg_head.predictor.clip_model
    opened = {n for n, p in clip.named_parameters() if p.requires_grad}
    image_tower = {n for n, _ in clip.named_parameters() if n.startswith("visual.")}
    assert opened == {n for n in image_tower if part in n} != image_tower


def test_frozen_text_is_embedded_once_in_training(batch, monkeypatch):
    model = build("MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "full").train()
    calls = []
    clip = model.sem_seg_head.predictor.clip_model
    clip.ln_final.register_forward_hook(lambda *args: calls.append(1))
    first = model(batch)["loss_sem_seg"]
    number = len(calls)
    model(batch)
    assert len(calls) == number > 0
    with torch.no_grad():
        clip.token_embedding.weight.add_(torch.randn_like(clip.token_embedding.weight))
    assert not torch.allclose(model(batch)["loss_sem_seg"], first)
    assert len(calls) == 2 * number


def test_rejecting_nothing_changes_nothing(batch):
    plain, rejecting = build(), build("TEST.FAST_INFERENCE", True, "TEST.TOPK", 5)
    rejecting.load_state_dict(plain.state_dict())
    for a, b in zip(segment(plain, batch), segment(rejecting, batch)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_rejected_classes_leave_the_attention_and_score_zero(batch):
    model = build("TEST.FAST_INFERENCE", True, "TEST.TOPK", 1)
    decoder = model.sem_seg_head.predictor.transformer
    inputs = batch[0]
    vocabulary = Vocabulary.from_classes([f"class {i}" for i in range(12)])
    with torch.no_grad():
        text = model.sem_seg_head.encode_text(vocabulary.entries)
        squashed = model.views.squash([model._normalize(inputs["image"])], pad=False)
        features, skips = model._features(squashed)
        _, early = decoder.train()(features.dense, text, skips)
        decoder.eval()
        first = early[0][0].argmax(dim=0).unique()
        logits = decoder.forward_rejecting(features.dense, text, skips, 1)[0]
        # Those that the first head drops never come back, and change nothing for the others.
        again = decoder.forward_rejecting(features.dense, text[first], skips, 1)[0]
    alive = torch.isfinite(logits).flatten(1).all(dim=1).nonzero().flatten()
    assert set(alive.tolist()) <= set(first.tolist())
    assert len(first) < 12
    survivors = torch.isfinite(again).flatten(1).all(dim=1)
    assert first[survivors].tolist() == alive.tolist()
    torch.testing.assert_close(again[survivors], logits[alive], rtol=1e-4, atol=1e-5)
    scores = segment(model, [{**inputs, "vocabulary": vocabulary}])[0]
    assert (scores.flatten(1).amax(dim=1) > 0).nonzero().flatten().tolist() == alive.tolist()


def test_rejection_is_image_by_image(batch):
    model = build("TEST.FAST_INFERENCE", True, "TEST.TOPK", 1)
    for inputs, scores in zip(batch, segment(model, batch)):
        torch.testing.assert_close(scores, segment(model, [inputs])[0], rtol=1e-4, atol=1e-6)


def test_blocks_equal_plain_formulas():
    for version in ("V1", "V2"):
        block = ConvNextBlock(6, 5, version=version)
        for parameter in block.parameters():
            torch.nn.init.normal_(parameter)
        x = torch.randn(2, 3, 6, 7, 8)
        for b in range(2):
            for k in range(3):
                y = F.conv2d(
                    x[b, k][None], block.dwconv.weight, block.dwconv.bias, padding=2, groups=6
                )[0]
                y = F.layer_norm(
                    y.movedim(0, -1), (6,), block.norm.weight, block.norm.bias, eps=1e-6
                )
                y = F.gelu(block.pwconv1(y))
                if version == "V2":
                    response = y.square().sum(dim=(0, 1)).sqrt()
                    scale = response / (response.mean() + 1e-6)
                    y = y + block.grn.gamma[0, 0, 0] * y * scale + block.grn.beta[0, 0, 0]
                y = block.pwconv2(y)
                y = y * block.gamma if version == "V1" else y
                expected = x[b, k] + y.movedim(-1, 0)
                torch.testing.assert_close(block(x)[b, k], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.SEM_SEG_HEAD.CNEXT_TYPE", "V2"),
        ("MODEL.SEM_SEG_HEAD.CNEXT_TYPE", "Swin", "MODEL.SEM_SEG_HEAD.WINDOW_SIZES", 4),
        ("MODEL.SEM_SEG_HEAD.TEXT_GUIDANCE_DIM", 64),
        ("MODEL.PROMPT_ENSEMBLE_TYPE", "single"),
        ("MODEL.SEM_SEG_HEAD.ATTENTION_TYPE", "full"),
    ],
)
def test_variants_train_and_reject(batch, opts):
    model = build(*opts, "TEST.FAST_INFERENCE", True)
    sum(model.train()(batch).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert torch.isfinite(segment(model, batch)[0]).all()


def test_masks_of_swin_blocks_are_for_the_grid_of_their_level():
    model = build("MODEL.SEM_SEG_HEAD.CNEXT_TYPE", "Swin", "MODEL.SEM_SEG_HEAD.WINDOW_SIZES", 4)
    levels = model.sem_seg_head.predictor.transformer._levels
    masks = [level.cnext.block_2.attn_mask for level in levels]
    assert masks[0] is None  # The grid is one window.
    assert [len(mask) for mask in masks[1:]] == [4, 16]
