import numpy as np
import pytest
import torch
from segment_anything.build_sam import _build_sam
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.transformer import TwoWayAttentionBlock
from torch.nn import functional as F

from escnet_d2.modeling.sam import SamBlock, build_sam_blocks
from escnet_d2.modeling.sam.sam_block import pseudo_mask_logits
from escnet_d2.modeling.sam.two_way_attention import two_way_layer

H, W, C = 6, 8, 32


def two_way(depth, heads):
    return TwoWayTransformer(depth=depth, embedding_dim=C, num_heads=heads, mlp_dim=48)


def official(height=H, width=W, depth=2, heads=4):
    """SAM's own modules at a size where patches and SAM's pixels coincide."""
    encoder = PromptEncoder(
        embed_dim=C,
        image_embedding_size=(height, width),
        input_image_size=(height, width),
        mask_in_chans=8,
    )
    decoder = MaskDecoder(transformer_dim=C, transformer=two_way(depth, heads))
    return encoder, decoder


def block_like(encoder, decoder, **options):
    block = SamBlock(
        prompt_encoder=PromptEncoder(
            embed_dim=C,
            image_embedding_size=(64, 64),
            input_image_size=(1024, 1024),
            mask_in_chans=8,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=C,
            transformer=two_way(
                decoder.transformer.depth, decoder.transformer.layers[0].self_attn.num_heads
            ),
        ),
        **options,
    )
    weights = {f"prompt_encoder.{k}": v for k, v in encoder.state_dict().items()}
    weights.update({f"mask_decoder.{k}": v for k, v in decoder.state_dict().items()})
    mine = block.state_dict().keys()
    assert set(mine) == set(weights), "keys must be SAM's own"
    block.load_state_dict(weights)
    return block


def official_outputs(encoder, decoder, image, points, labels, masks, alpha=0.1):
    """Image side of SAM's own two-way transformer and its first mask, prompt set by prompt set."""
    results = []
    for i, mask in enumerate(masks):
        if mask is not None:
            logits = (mask / (1 - mask)).log() - np.log(alpha / (1 - alpha))
            logits = logits.clamp(-10, 10)[None, None]
            mask = F.interpolate(logits, scale_factor=4, mode="bilinear")
        sparse, dense = encoder((points[i : i + 1], labels[i : i + 1]), None, mask)
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None]
        tokens = torch.cat([tokens, sparse], dim=1)
        _, keys = decoder.transformer(image + dense, encoder.get_dense_pe(), tokens)
        logits, _ = decoder(
            image_embeddings=image,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        results.append((keys, logits.squeeze(1)))
    return [torch.cat(part) for part in zip(*results)]


@pytest.mark.parametrize(
    ("height", "width", "depth", "heads"), [(1, 1, 2, 4), (2, 3, 1, 2), (6, 8, 3, 1)]
)
def test_equals_segment_anything_at_other_sizes(height, width, depth, heads):
    """Also with fewer patches than tokens, and for one prompt set."""
    encoder, decoder = official(height, width, depth, heads)
    block = block_like(encoder, decoder)
    image = torch.randn(1, C, height, width)
    points, labels = torch.rand(1, 8, 2), torch.ones(1, 8, dtype=torch.long)
    masks = torch.rand(1, height, width)
    got = block(image, block.image_position(height, width), points, labels, masks)
    expected = official_outputs(encoder, decoder, image, points, labels, masks)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use_masks", [True, False])
def test_values_and_gradients_equal_segment_anything(use_masks):
    encoder, decoder = official()
    block = block_like(encoder, decoder, use_masks=use_masks)
    image = torch.randn(1, C, H, W, requires_grad=True)
    points = torch.randint(0, 6, (3, 5, 2)).float()
    labels = torch.tensor([[1, 1, 1, 1, 1], [1, 1, -1, -1, -1], [-1, -1, -1, -1, -1]])
    masks = torch.rand(3, H, W)
    weights = torch.randn(3, H * W, C), torch.randn(3, 4 * H, 4 * W)

    def total(outputs):
        return sum((output * weight).sum() for output, weight in zip(outputs, weights))

    got = block(image, block.image_position(H, W), points, labels, masks)
    total(got).backward()
    gradient, image.grad = image.grad, None
    # The last prompt set is empty.
    given = [masks[0], masks[1], None] if use_masks else [None] * 3
    expected = official_outputs(encoder, decoder, image, points, labels, given)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    total(expected).backward()
    torch.testing.assert_close(gradient, image.grad, rtol=1e-4, atol=1e-4)
    theirs = {f"prompt_encoder.{name}": p.grad for name, p in encoder.named_parameters()}
    theirs.update({f"mask_decoder.{name}": p.grad for name, p in decoder.named_parameters()})
    compared = 0
    for name, parameter in block.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            torch.testing.assert_close(
                parameter.grad, theirs[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: n + m
            )
            compared += 1
    assert compared > 60


def layer_inputs(sets, tokens, patches, channels, dtype, one_image=False):
    generator = torch.Generator().manual_seed(5)
    image = (patches, channels)
    sizes = [(sets, tokens, channels), image if one_image else (sets, *image)]
    sizes += [(sets, tokens, channels), image]
    return [torch.randn(*size, generator=generator, dtype=dtype) for size in sizes]


def for_the_module(inputs):
    """Gives each prompt set an image and its positions."""
    queries, keys, query_pe, key_pe = inputs
    return queries, keys.expand(len(queries), -1, -1), query_pe, key_pe.unsqueeze(0)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("one_image", [True, False])
@pytest.mark.parametrize(
    ("channels", "heads", "sets", "tokens", "patches"),
    [(32, 4, 3, 11, 48), (30, 5, 2, 7, 20), (12, 3, 1, 9, 4), (8, 1, 2, 3, 1), (16, 8, 1, 1, 5)],
)
def test_two_way_layer_equals_the_module(channels, heads, sets, tokens, patches, one_image, first):
    """Values and gradients, to rounding; no bias of the projections is zero here."""
    torch.manual_seed(6)
    layer = TwoWayAttentionBlock(channels, heads, mlp_dim=24, skip_first_layer_pe=first).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    inputs = [
        x.requires_grad_()
        for x in layer_inputs(sets, tokens, patches, channels, torch.double, one_image)
    ]
    weights = [torch.randn(sets, rows, channels).double() for rows in (tokens, patches)]
    leaves = {**dict(layer.named_parameters()), **{f"input {i}": x for i, x in enumerate(inputs)}}

    def values_and_gradients(outputs):
        total = sum((x * weight).sum() for x, weight in zip(outputs, weights))
        return outputs, torch.autograd.grad(total, list(leaves.values()))

    got, got_gradients = values_and_gradients(two_way_layer(layer, *inputs))
    expected, expected_gradients = values_and_gradients(layer(*for_the_module(inputs)))
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    for name, a, b in zip(leaves, got_gradients, expected_gradients):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


def test_two_way_layer_of_no_prompt_sets():
    layer = TwoWayAttentionBlock(8, 2, mlp_dim=8)
    queries, keys = two_way_layer(layer, *layer_inputs(0, 3, 5, 8, torch.float))
    assert queries.shape == (0, 3, 8)
    assert keys.shape == (0, 5, 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("one_image", [True, False])
def test_half_precision_is_as_exact_as_the_module(one_image, dtype):
    torch.manual_seed(7)
    layer = TwoWayAttentionBlock(64, 4, mlp_dim=64)
    inputs = layer_inputs(4, 11, 100, 64, torch.float, one_image)
    with torch.no_grad():
        exact = layer(*for_the_module(inputs))
        with torch.autocast("cpu", dtype):
            ours, theirs = two_way_layer(layer, *inputs), layer(*for_the_module(inputs))
    for a, b, c in zip(ours, theirs, exact):
        assert a.dtype == b.dtype
        assert (a - c).square().mean() < 1.5 * (b - c).square().mean()


def test_points_can_be_left_out():
    encoder, decoder = official()
    block = block_like(encoder, decoder, use_points=False)
    image, masks = torch.randn(1, C, H, W), torch.rand(2, H, W)
    points, labels = torch.rand(2, 5, 2), torch.ones(2, 5, dtype=torch.long)
    got = block(image, block.image_position(H, W), points, labels, masks)
    expected = official_outputs(encoder, decoder, image, points, -labels, masks)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    sum(output.sum() for output in got).backward()
    assert all((p.grad is not None) == p.requires_grad for p in block.parameters())


def test_masks_are_logits_around_the_threshold():
    """0 says "as likely in as out" to SAM: that is what alpha means; the background is -10."""
    logits = pseudo_mask_logits(torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]), 0.1)
    expected = torch.tensor([-10, 0, np.log(9), 2 * np.log(9), 10])
    torch.testing.assert_close(logits, expected.float(), atol=1e-5, rtol=1e-5)
    encoder, decoder = official()
    block = block_like(encoder, decoder, alpha=0.3)
    image, masks = torch.randn(1, C, H, W), torch.rand(1, H, W) * 0.8 + 0.1
    masks[0, :2, 0] = torch.tensor([0.0, 1.0])
    points, labels = torch.zeros(1, 5, 2), torch.ones(1, 5, dtype=torch.long)
    got = block(image, block.image_position(H, W), points, labels, masks)
    expected = official_outputs(encoder, decoder, image, points, labels, masks, alpha=0.3)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_official_checkpoint_loads_into_each_block(tiny_cfg, tmp_path):
    """SAM ViT-B's decoder sizes and key names, as segment_anything builds them."""
    sam = _build_sam(
        encoder_embed_dim=32, encoder_depth=1, encoder_num_heads=1, encoder_global_attn_indexes=[0]
    )
    path = tmp_path / "sam.pth"
    torch.save(sam.state_dict(), path)
    tiny_cfg.MODEL.SAM.update(
        {"EMBED_DIM": 256, "MASK_IN_CHANS": 16, "DEPTH": 2, "NUM_HEADS": 8, "MLP_DIM": 2048}
    )
    tiny_cfg.MODEL.SAM.WEIGHTS = str(path)
    tiny_cfg.MODEL.ESCNET.NUM_BLOCKS = 2
    blocks = build_sam_blocks(tiny_cfg)
    wanted = {
        k: v
        for k, v in sam.state_dict().items()
        if k.startswith(("prompt_encoder.", "mask_decoder."))
    }
    for block in blocks:
        state = block.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[k], wanted[k]) for k in wanted)
    assert (
        blocks[0].mask_decoder.mask_tokens.weight is not blocks[1].mask_decoder.mask_tokens.weight
    )

    tiny_cfg.MODEL.SAM.EMBED_DIM, tiny_cfg.MODEL.ESCNET.NUM_BLOCKS = 128, 1
    with pytest.raises(RuntimeError, match="sam.pth does not fit the sizes of MODEL.SAM"):
        build_sam_blocks(tiny_cfg)


def test_positions_stay_exact_under_autocast(monkeypatch):
    block = block_like(*official())
    image, masks = torch.randn(1, C, H, W), torch.rand(1, H, W)
    points, labels = torch.rand(1, 5, 2), torch.ones(1, 5, dtype=torch.long)
    seen = []

    def layer(module, queries, keys, query_pe, key_pe):
        seen.append(torch.cat([query_pe[0], key_pe]))
        return two_way_layer(module, queries, keys, query_pe, key_pe)

    monkeypatch.setattr("escnet_d2.modeling.sam.sam_block.two_way_layer", layer)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            block(image, block.image_position(H, W), points, labels, masks)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])


def test_options_reach_each_block(tiny_cfg):
    options = {"EMBED_DIM": 24, "MASK_IN_CHANS": 12, "DEPTH": 3, "NUM_HEADS": 3, "MLP_DIM": 40}
    tiny_cfg.MODEL.SAM.update({**options, "NUM_MASK_TOKENS": 2, "WEIGHTS": "random"})
    tiny_cfg.MODEL.ESCNET.update({"NUM_BLOCKS": 3, "ALPHA": 0.2})
    for use_points, use_masks, prompts in ((False, True, ["mask"]), (True, False, ["point"])):
        tiny_cfg.MODEL.ESCNET.PROMPTS = prompts
        blocks = build_sam_blocks(tiny_cfg)
        assert len(blocks) == 3
        for block in blocks:
            assert (block.use_points, block.use_masks) == (use_points, use_masks)
            assert block.alpha == 0.2
            assert block.mask_decoder.mask_tokens.weight.shape == (2, 24)
            assert block.prompt_encoder.mask_downscaling[-1].weight.shape == (24, 12, 1, 1)
            layers = block.mask_decoder.transformer.layers
            assert len(layers) == 3
            assert layers[2].self_attn.num_heads == 3
            assert layers[2].mlp.lin1.out_features == 40
