import pytest
import torch
from torch.nn import functional as F

from escnet_d2.modeling.escnet import ESCNetHead, MaskDecoder
from escnet_d2.structures import ClipFeatures

D, WIDTH, H, W = 16, 24, 8, 10


@pytest.fixture
def head(tiny_cfg, past_the_start):
    tiny_cfg.MODEL.ESCNET.ALPHA = 0.6
    return past_the_start(
        ESCNetHead(tiny_cfg, clip_dim=D, clip_width=WIDTH, num_templates=1).eval()
    )


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    return ClipFeatures(
        dense=random(2, D, H, W), intermediate=(random(2, WIDTH, H, W), random(2, WIDTH, H, W))
    )


@pytest.fixture
def text():
    generator = torch.Generator().manual_seed(4)
    return F.normalize(torch.randn(12, 1, D, generator=generator), dim=-1)


TEMPERATURE = torch.tensor(5.0)


def test_some_classes_have_no_foreground(head, features, text):
    """The other tests of this file mean something: prompts differ between classes."""
    prompts = head(features, text, TEMPERATURE).prompts[0]
    assert 0 < prompts.has_foreground.sum() < prompts.has_foreground.numel()


def test_stand_in_for_empty_classes_changes_nothing(head, features, text):
    """One empty class stands for all of them; here each class is run on its own."""
    block = head.blocks[0]
    output = head(features, text, TEMPERATURE)
    class_map, prompts = output.class_maps[0], output.prompts[0]
    image = features.dense.permute(0, 2, 3, 1)
    got = block._refine(image, class_map, prompts, 0)

    embedding = block.to_sam(image).permute(0, 3, 1, 2)
    position = block.sam.image_position(H, W)
    weight = class_map.softmax(dim=1)
    expected = 0
    for k in range(12):
        refined = block.sam(
            embedding,
            position,
            prompts.points[:, k],
            prompts.point_labels[:, k],
            prompts.masks[:, k],
        )
        expected = expected + weight[:, k].unsqueeze(-1) * refined.unflatten(1, (H, W))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 5, 12, 100])
def test_chunks_change_nothing(head, features, text, chunk):
    expected = head(features, text, TEMPERATURE).logits
    head.class_chunk_size = chunk
    torch.testing.assert_close(
        head(features, text, TEMPERATURE).logits, expected, rtol=1e-4, atol=1e-5
    )


def test_pruning_keeps_the_likeliest_of_each_image(head, features, text):
    full = head(features, text, TEMPERATURE)
    head.max_classes = 12
    torch.testing.assert_close(head(features, text, TEMPERATURE).logits, full.logits)
    head.max_classes = 5
    pruned = head(features, text, TEMPERATURE)
    best = full.class_maps[0].amax(dim=(2, 3))
    for b in range(2):
        kept = best[b].topk(5).indices.sort().values
        assert pruned.entries[b].tolist() == kept.tolist()
        # The kept classes score as if they were the vocabulary.
        one = ClipFeatures(
            features.dense[b : b + 1], tuple(f[b : b + 1] for f in features.intermediate)
        )
        alone = head(one, text[kept], TEMPERATURE).logits
        torch.testing.assert_close(pruned.logits[b], alone[0], rtol=1e-4, atol=1e-5)
    head.train()
    assert head(features, text, TEMPERATURE).entries.shape == (2, 12), "training keeps all"


def test_first_map_is_clips_correlation(head, features, text):
    maps = head(features, text, TEMPERATURE).class_maps
    cosine = torch.einsum("bdhw,kd->bkhw", F.normalize(features.dense, dim=1), text[:, 0])
    torch.testing.assert_close(maps[0], 5 * cosine, rtol=1e-4, atol=1e-5)
    # Heads start at zero, so the second block starts from the same map.
    torch.testing.assert_close(maps[1], maps[0])

    def compare(_, arguments):
        _, x, _, class_map, *_ = arguments
        added = (x * head.map_heads[0].weight).sum(dim=-1)
        torch.testing.assert_close(class_map, maps[0] + added, rtol=1e-4, atol=1e-5)

    torch.nn.init.normal_(head.map_heads[0].weight)
    head.blocks[1].register_forward_pre_hook(compare)
    assert not torch.equal(head(features, text, TEMPERATURE).class_maps[1], maps[1])


def test_decoder_joins_skips_as_a_concatenation():
    decoder = MaskDecoder(in_dim=6, skip_width=4, dims=(5, 3), skip_dims=(3, 2)).double()
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    skips = [torch.randn(2, 4, 4, 5, dtype=torch.float64) for _ in range(2)]

    def up(block, maps, skip):
        size = (2 * maps.shape[-2], 2 * maps.shape[-1])
        maps = F.interpolate(maps, size=size, mode="bilinear")
        projection = block.skip_projection.weight.flatten(1), block.skip_projection.bias
        joined = F.linear(skip.movedim(1, -1), *projection).movedim(-1, 1)
        joined = F.interpolate(joined, size=size, mode="bilinear")
        weight = torch.cat([block.conv1.weight, block.skip_conv.weight], dim=1)
        maps = F.conv2d(torch.cat([maps, joined], dim=1), weight, block.conv1.bias, padding=1)
        maps = F.relu(block.norm1(maps))
        return F.relu(block.norm2(block.conv2(maps)))

    got = decoder(x, skips)
    assert got.shape == (2, 3, 16, 20)
    for k in range(3):
        maps = up(decoder.up_blocks[0], x[:, k].permute(0, 3, 1, 2), skips[1])
        maps = up(decoder.up_blocks[1], maps, skips[0])
        torch.testing.assert_close(got[:, k], decoder.head(maps)[:, 0])


def test_before_training_sam_blocks_change_nothing(tiny_cfg, features, text):
    sizes = {"clip_dim": D, "clip_width": WIDTH, "num_templates": 1}
    with_sam = ESCNetHead(tiny_cfg, **sizes).eval()
    tiny_cfg.MODEL.ESCNET.USE_SAM = False
    without = ESCNetHead(tiny_cfg, **sizes).eval()
    left_out = without.load_state_dict(with_sam.state_dict(), strict=False)
    assert not left_out.missing_keys
    assert all(".sam." in k or "_sam." in k for k in left_out.unexpected_keys)
    expected = without(features, text, TEMPERATURE).logits
    torch.testing.assert_close(with_sam(features, text, TEMPERATURE).logits, expected)


@pytest.mark.parametrize(
    ("use_sam", "aux_weight", "number"), [(True, 0.0, 2), (False, 0.1, 2), (False, 0.0, 0)]
)
def test_map_heads_where_their_maps_are_read(tiny_cfg, use_sam, aux_weight, number):
    options = {"USE_SAM": use_sam, "AUX_LOSS_WEIGHT": aux_weight, "NUM_BLOCKS": 3}
    tiny_cfg.MODEL.ESCNET.update(options)
    head = ESCNetHead(tiny_cfg, clip_dim=D, clip_width=WIDTH, num_templates=1)
    assert len(head.map_heads) == number
    for block in head.blocks:
        assert [swin.shifted for swin in block.fusion.image_blocks] == [False, True]
