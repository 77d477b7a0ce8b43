import open_clip
import pytest
import torch
from torch.nn import functional as F

from escnet_d2.modeling.clip import (
    ClipEncoder,
    SplitAttention,
    build_clip_model,
    prompt_templates,
)
from escnet_d2.modeling.clip.build import build_baseline_clip

CAT_DOG = (("cat",), ("dog", "hound"))


def encoder(like=None, **options):
    """Builds a tiny CLIP, with the weights of another one if given."""
    clip = ClipEncoder(
        model=build_clip_model("escnet_tiny", "random"),
        tokenizer=open_clip.get_tokenizer("escnet_tiny"),
        name="escnet_tiny",
        **{"intermediate_blocks": (0, 2), **options},
    )
    if like is not None:
        clip.load_state_dict(like.state_dict())
    return clip.eval()


def test_split_attention_equals_torch():
    joint = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    torch.nn.init.normal_(joint.in_proj_bias)
    split = SplitAttention.from_joint(joint)
    x = torch.randn(3, 7, 32)
    mask = torch.full((7, 7), float("-inf")).triu(1)
    for attn_mask in (None, mask):
        expected, _ = joint(x, x, x, need_weights=False, attn_mask=attn_mask)
        torch.testing.assert_close(split(x, x, x, attn_mask=attn_mask)[0], expected)


@pytest.mark.parametrize("residual", ["cls", "token"])
def test_dense_features_are_the_value_path(residual):
    clip = encoder(dense_residual=residual)
    visual = clip.model.visual
    images = torch.randn(2, 3, 96, 96)
    features = clip.encode_image(images)

    x = visual._embeds(images)
    blocks = visual.transformer.resblocks
    intermediate = []
    for block in blocks[:-1]:
        x = block(x)
        intermediate.append(x)
    last = blocks[-1]
    normed = last.ln_1(x)
    values = F.linear(normed, last.attn.v_proj_weight, last.attn.in_proj_bias[-128:])
    y = last.attn.out_proj(values) + (x[:, :1] if residual == "cls" else x)
    y = y + last.mlp(last.ln_2(y))
    expected = visual.ln_post(y) @ visual.proj
    for row in range(12):
        torch.testing.assert_close(
            features.dense[:, :, row], expected[:, 1 + 12 * row : 13 + 12 * row].transpose(1, 2)
        )
    torch.testing.assert_close(
        features.intermediate[1].flatten(2).transpose(1, 2), intermediate[2][:, 1:]
    )


def test_other_sizes_interpolate_positions():
    clip = encoder()
    features = clip.encode_image(torch.randn(1, 3, 64, 200))
    assert features.dense.shape == (1, 64, 8, 25)
    assert [f.shape for f in features.intermediate] == [(1, 128, 8, 25)] * 2
    # A constant field of position embeddings stays constant at any size.
    with torch.no_grad():
        clip.model.visual.positional_embedding[1:] = 0.5
        clip.model.visual.conv1.weight.zero_()
    dense = clip.encode_image(torch.randn(1, 3, 64, 200)).dense
    torch.testing.assert_close(dense, dense[:, :, :1, :1].expand_as(dense))
    with pytest.raises(ValueError, match="60 x 64 is not a multiple of the patch size 8 x 8"):
        clip.encode_image(torch.randn(1, 3, 60, 64))


def test_gradient_checkpointing_changes_nothing_but_memory():
    plain = encoder(finetune="full", text_batch_size=1)
    saving = encoder(plain, finetune="full", text_batch_size=1, gradient_checkpointing=True)
    images = torch.randn(1, 3, 64, 64)
    gradients, kept = [], []
    for clip in (plain.train(), saving.train()):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            embeddings = clip.encode_text(CAT_DOG)
        weights = torch.arange(embeddings.numel()).view_as(embeddings).float()
        (embeddings * weights).sum().backward()
        clip.encode_image(images).dense.square().sum().backward()
        towers = clip.model.transformer, clip.model.visual.transformer
        gradients.append([tower.resblocks[0].attn.q_proj_weight.grad for tower in towers])
        kept.append(sum(sizes))
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])
    torch.testing.assert_close(*gradients)
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("templates", ["single", "imagenet", "vild"])
@pytest.mark.parametrize("causal", [True, False])
def test_text_embeddings_equal_open_clip(templates, causal):
    clip = encoder(templates=templates, average_templates=False, text_batch_size=7)
    if not causal:
        clip.model.attn_mask = None
    result = clip.encode_text(CAT_DOG)
    patterns = prompt_templates(templates)
    tokenizer = open_clip.get_tokenizer("escnet_tiny")

    def embed(name):
        # The full 77 positions, which our encoder cuts to those in use.
        tokens = tokenizer([pattern.replace("{}", name) for pattern in patterns])
        return F.normalize(clip.model.encode_text(tokens), dim=-1)

    cat = embed("cat")
    dog = F.normalize((embed("dog") + embed("hound")) / 2, dim=-1)
    torch.testing.assert_close(result, torch.stack([cat, dog]), rtol=1e-4, atol=1e-5)

    averaged = encoder(clip, templates=templates)
    averaged.model.attn_mask = clip.model.attn_mask
    expected = F.normalize(embed("cat").mean(dim=0), dim=-1)
    torch.testing.assert_close(averaged.encode_text(CAT_DOG)[0, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("ensemble", "number"), [("mean", 1), ("channels", 14)])
def test_templates_of_a_configuration(tiny_cfg, ensemble, number):
    tiny_cfg.MODEL.CLIP.TEMPLATES, tiny_cfg.MODEL.CLIP.TEMPLATE_ENSEMBLE = "vild", ensemble
    assert ClipEncoder(tiny_cfg).num_templates == number


def test_template_counts():
    assert [len(prompt_templates(name)) for name in ("single", "imagenet", "vild")] == [1, 80, 14]
    assert all(t.count("{}") == 1 for t in prompt_templates("vild"))
    with pytest.raises(ValueError, match="single, vild, imagenet"):
        prompt_templates("other")


def text_runs(clip):
    """Returns a list that grows by one whenever the text tower runs."""
    runs = []
    clip.model.ln_final.register_forward_hook(lambda *_: runs.append(1))
    return runs


def test_cache_is_used_in_eval_mode_only():
    clip = encoder()
    runs = text_runs(clip)
    with torch.no_grad():
        first = clip.encode_text(CAT_DOG)
        assert clip.encode_text([["cat"], ["dog", "hound"]]) is first
        assert len(runs) == 1
        clip.encode_text((("cat",),))
        assert len(runs) == 2
        clip.train()
        clip.encode_text(CAT_DOG)
        clip.encode_text(CAT_DOG)
        assert len(runs) == 4
        clip.eval()
        clip.encode_text(CAT_DOG)
        assert len(runs) == 5, "training must forget"


def test_a_frozen_text_tower_is_not_run_again_in_training():
    clip = encoder(finetune="none").train()
    runs = text_runs(clip)
    first = clip.encode_text(CAT_DOG)
    assert clip.encode_text(CAT_DOG) is first
    assert len(runs) == 1
    assert not first.requires_grad


@pytest.mark.parametrize("change", ["step", "swap", "load"])
def test_cache_never_survives_a_weight_change(change):
    clip = encoder()
    weight = clip.model.transformer.resblocks[0].mlp.c_fc.weight
    with torch.no_grad():
        before = clip.encode_text(CAT_DOG)
        if change == "step":
            weight.add_(0.1)
        elif change == "swap":
            weight.data = weight.data + 0.1
        else:
            clip.model.load_state_dict(encoder().model.state_dict())
        after = clip.encode_text(CAT_DOG)
    assert not torch.allclose(before, after)


def test_cached_embeddings_carry_no_graph():
    clip = encoder(finetune="full")
    assert not clip.encode_text(CAT_DOG).requires_grad
    assert clip.train().encode_text(CAT_DOG).requires_grad


def test_split_checkpoints_load(tiny_cfg, tmp_path):
    model = build_clip_model("escnet_tiny", "random")
    path = tmp_path / "clip.pt"
    torch.save(model.state_dict(), path)
    again = build_clip_model("escnet_tiny", str(path))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))


@pytest.mark.parametrize(
    ("name", "tag", "activation"),
    [
        ("ViT-B-16", "openai", "QuickGELU"),
        ("ViT-B-16-quickgelu", "random", "QuickGELU"),
        ("ViT-B-16", "laion2b_s34b_b88k", "GELU"),
        ("ViT-B-16-quickgelu", "openai", "QuickGELU"),
    ],
)
def test_activation_is_that_of_the_weights(tiny_cfg, name, tag, activation):
    tiny_cfg.MODEL.CLIP.NAME = name
    tiny_cfg.MODEL.CLIP.WEIGHTS = tag
    tiny_cfg.MODEL.CLIP.INTERMEDIATE_BLOCKS = [3, 7]
    tiny_cfg.MODEL.WEIGHTS = "model_final.pth"  # nothing is loaded when the model is built
    clip = ClipEncoder(tiny_cfg)
    for tower in (clip.model.visual.transformer, clip.model.transformer):
        assert type(tower.resblocks[0].mlp.gelu).__name__ == activation


@pytest.mark.parametrize("weights", ["", "model_final.pth"])
def test_activation_of_a_baseline_is_the_same_under_a_checkpoint(tiny_cfg, weights, monkeypatch):
    """A model that was trained from a tag is tested with the activation of that tag."""
    monkeypatch.setattr(
        "escnet_d2.modeling.clip.build.clip_weights_file", lambda name, spec: f"{name}:{spec}"
    )
    monkeypatch.setattr("escnet_d2.modeling.clip.build.load_state_dict", lambda path: {})
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
    monkeypatch.setattr("escnet_d2.modeling.clip.build.resize_pos_embed", lambda *_: None)
    tiny_cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED = "ViT-B-32"
    tiny_cfg.MODEL.CLIP.WEIGHTS = "openai"
    tiny_cfg.MODEL.WEIGHTS = weights
    model, _ = build_baseline_clip(tiny_cfg, convnext=False)
    assert type(model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


@pytest.mark.parametrize("policy", ["attention", "full", "none"])
def test_finetune_policies(policy):
    clip = encoder(finetune=policy)
    model, opened = clip.model, clip.trainable
    assert opened == [n for n, p in model.named_parameters() if p.requires_grad]
    assert bool(opened) == (policy != "none")
    if policy == "attention":
        towers = [f"visual.transformer.resblocks.{i}" for i in range(4)]
        towers += [f"transformer.resblocks.{i}" for i in range(3)]
        expected = {f"{t}.attn.{x}_proj_weight" for t in towers for x in "qv"}
        # The last image block gives its values only.
        expected.remove("visual.transformer.resblocks.3.attn.q_proj_weight")
        assert set(opened) == expected
    if policy == "full":
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        last = "visual.transformer.resblocks.3.attn"
        assert frozen == {"logit_scale", f"{last}.q_proj_weight", f"{last}.k_proj_weight"}


def test_only_plain_vits(tiny_cfg):
    tiny_cfg.MODEL.CLIP.NAME = "RN50"
    with pytest.raises(ValueError, match="RN50.*plain ViT"):
        ClipEncoder(tiny_cfg)
    tiny_cfg.MODEL.CLIP.NAME = "ViT-Z"
    with pytest.raises(ValueError, match="ViT-Z.*escnet_tiny.*ViT-B-16"):
        ClipEncoder(tiny_cfg)


def test_weights_from_a_path(tiny_cfg, tmp_path):
    # A joint-attention checkpoint of another resolution: positions are resized on loading.
    config = open_clip.get_model_config("escnet_tiny")
    config["vision_cfg"]["image_size"] = 64
    model = open_clip.CLIP(**config).half()
    path = tmp_path / "clip.pt"
    torch.save({"state_dict": model.state_dict()}, path)
    tiny_cfg.MODEL.CLIP.WEIGHTS = str(path)
    clip = ClipEncoder(tiny_cfg)
    assert clip.model.visual.proj.dtype == torch.float32
    model.float()
    for ours, joint in (
        (clip.model.visual.proj, model.visual.proj),
        (
            clip.model.transformer.resblocks[1].attn.k_proj_weight,
            model.transformer.resblocks[1].attn.in_proj_weight.chunk(3)[1],
        ),
    ):
        torch.testing.assert_close(ours.data, joint.data, rtol=0, atol=0)
    tokens = open_clip.get_tokenizer("escnet_tiny")(["a photo of a cat"])
    torch.testing.assert_close(clip.model.encode_text(tokens), model.encode_text(tokens))
    assert clip.model.visual.positional_embedding.shape == (145, 128)

    torch.save({"state_dict": {"conv": torch.zeros(1)}}, path)
    with pytest.raises(RuntimeError, match="clip.pt does not fit MODEL.CLIP.NAME escnet_tiny"):
        ClipEncoder(tiny_cfg)


def test_names_are_tokenized_once():
    """Training embeds the same names at every step."""
    clip = encoder().train()
    calls = []

    def tokenize(sentences, tokenizer=clip.text.tokenizer):
        calls.append(len(sentences))
        return tokenizer(sentences)

    clip.text.tokenizer = tokenize
    first, again = clip.encode_text(CAT_DOG), clip.encode_text(CAT_DOG)
    torch.testing.assert_close(first, again)
    clip.encode_text([["cat"], ["bird"]])
    assert calls == [3, 2]


@pytest.mark.parametrize("finetune", ["full", "none"])
def test_names_first_read_in_inference_mode_can_train(finetune):
    clip = encoder(finetune=finetune)
    names = (("inference",), ("mode",))
    with torch.inference_mode():
        clip.encode_text(names)
    weight = torch.ones((), requires_grad=True)
    (weight * clip.train().encode_text(names)).square().sum().backward()
    assert weight.grad > 0
    assert (clip.model.token_embedding.weight.grad is None) == (finetune == "none")


@pytest.mark.parametrize("templates", ["single", "imagenet"])
def test_names_beyond_the_context_are_named(templates, caplog):
    clip = encoder(templates=templates).train()
    tokenizer = clip.text.tokenizer
    room = tokenizer.context_length - max(
        len(tokenizer.encode(template.format(""))) + 2 for template in prompt_templates(templates)
    )
    fits, long = " ".join(["dog"] * room), " ".join(["dog"] * (room + 1))
    assert clip.text.truncated_names((("cat", fits), (long,))) == (long,)
    clip.encode_text((("cat",), (fits,)))
    assert "CLIP reads" not in caplog.text
    for _ in range(2):
        clip.encode_text((("cat",), (fits,), (long,)))
    (record,) = [record for record in caplog.records if "CLIP reads" in record.message]
    assert record.levelname == "WARNING"
    assert f"only the beginning of '{long[:60]}...': shorten" in record.message
