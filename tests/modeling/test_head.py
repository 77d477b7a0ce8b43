import itertools

import pytest
import torch
from torch.nn import functional as F

from escnet_d2.layers.mask_pooling import pool_inside
from escnet_d2.modeling.escnet import ESCNetHead, MaskDecoder
from escnet_d2.modeling.escnet.esc_block import SAM_OUTPUTS, prompt_sets
from escnet_d2.structures import ClipFeatures

D, WIDTH, H, W = 16, 24, 8, 10


@pytest.fixture
def head(tiny_cfg, past_the_start):
    tiny_cfg.MODEL.ESCNET.update({"SOFTMAX": "class", "ALPHA": 0.6})
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


def test_every_class_is_a_prompt_set(head, features, text):
    """Here class by class; those without foreground are run as well, each on its own."""
    block = head.blocks[0]
    output = head(features, text, TEMPERATURE)
    class_map, prompts = output.class_maps[0], output.prompts[0]
    embedding = head.sam_adapter(features)
    found = block._run_sam(embedding, class_map, prompts, 0)

    position = block.sam.image_position(H, W)
    weight = class_map.softmax(dim=1)
    for b in range(2):
        expected, masks = 0, []
        for k in range(12):
            own = (prompts.points, prompts.point_labels, prompts.masks)
            refined, logits = block.sam(
                embedding[b : b + 1], position, *(given[b, k].unsqueeze(0) for given in own)
            )
            expected = expected + weight[b, k].unsqueeze(-1) * refined[0].unflatten(0, (H, W))
            if prompts.has_foreground[b, k]:
                masks.append(F.avg_pool2d((logits > 0).float(), 4)[0])
        torch.testing.assert_close(found.mixed[b], expected, rtol=1e-4, atol=1e-5)
        # The set of the empty classes has no mask.
        sets, counts = prompt_sets(class_map, prompts)
        given = found.masks[b][sets.split(counts)[b].is_given]
        torch.testing.assert_close(given, torch.stack(masks), rtol=1e-4, atol=1e-5)
        assert found.masks[b].flatten(1).any(dim=1).sum() <= len(masks)


def test_own_features_and_mask_of_each_class(tiny_cfg, features, text):
    tiny_cfg.MODEL.ESCNET.update(
        {"SOFTMAX": "class", "ALPHA": 0.6, "SAM_OUTPUTS": ["features", "masks"]}
    )
    head = ESCNetHead(tiny_cfg, clip_dim=D, clip_width=WIDTH, num_templates=1).eval()
    output, block = head(features, text, TEMPERATURE), head.blocks[0]
    class_map, prompts = output.class_maps[0], output.prompts[0]
    found = block._run_sam(head.sam_adapter(features), class_map, prompts, 0)
    assert found.mixed is None
    for b, k in itertools.product(range(2), range(12)):
        own = (prompts.points, prompts.point_labels, prompts.masks)
        refined, logits = block.sam(
            head.sam_adapter(features)[b : b + 1],
            block.sam.image_position(H, W),
            *(given[b, k].unsqueeze(0) for given in own),
        )
        given = prompts.has_foreground[b, k]
        mask = given * F.avg_pool2d((logits > 0).float(), 4)[0]
        torch.testing.assert_close(found.own_mask[b, k], mask, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            found.own_features[b, k].flatten(0, 1), given * refined[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("aux", [0.0, 0.1])
@pytest.mark.parametrize(
    "outputs", [[name] for name in SAM_OUTPUTS] + [["features", "masks"], ["guidance", "masks"]]
)
def test_no_output_of_sam_leaves_a_weight_idle(tiny_cfg, features, text, outputs, aux):
    """As processes that train together need: each must find a gradient for every weight."""
    tiny_cfg.MODEL.ESCNET.update({"SAM_OUTPUTS": outputs, "AUX_LOSS_WEIGHT": aux})
    head = ESCNetHead(tiny_cfg, clip_dim=D, clip_width=WIDTH, num_templates=1)
    output = head(features, text, TEMPERATURE)
    maps = sum(map.sum() for map in output.class_maps[1:]) if aux else 0.0
    (output.logits.sum() + maps).backward()
    trained = {n: p for n, p in head.named_parameters() if p.requires_grad}
    assert [name for name, weight in trained.items() if weight.grad is None] == []


def test_means_inside_masks_by_hand():
    maps = torch.tensor([[1.0, 2.0, 6.0]]).view(1, 1, 3, 1)
    two = torch.tensor([[1.0, 1.0, 0.0]]).view(1, 1, 3)
    pooled = pool_inside(maps, two).flatten().tolist()
    assert pooled == pytest.approx([1.5, 1.5, 0])
    # The middle lies in both masks; half a patch counts half.
    both = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.5]]).view(2, 1, 3)
    second = (2 + 6 / 2) / 1.5
    pooled = pool_inside(maps, both).flatten().tolist()
    assert pooled == pytest.approx([1.5, (1.5 + second) / 2, second / 2])
    assert pool_inside(maps, torch.zeros(0, 1, 3)).tolist() == torch.zeros(1, 1, 3, 1).tolist()


def test_masks_pool_every_class_and_know_none(head, features, text):
    """Which class a mask's prompt came from makes no difference."""
    pooling = head.blocks[0].pooling
    x, class_map = torch.randn(1, 4, H, W, 32), torch.randn(1, 4, H, W)
    masks = torch.rand(3, H, W)
    expected = pooling(x, class_map, [masks])
    torch.testing.assert_close(pooling(x, class_map, [masks.flip(0)]), expected)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        pooling(x[:, order], class_map[:, order], [masks]), expected[:, order]
    )
    assert ((expected - x).abs().amax(dim=(0, 2, 3, 4)) > 0).all()
    torch.testing.assert_close(pooling(x, class_map, [masks[:0]]), x)


def test_dropped_prompts_are_those_of_whole_images_in_training(tiny_cfg, features, text):
    tiny_cfg.MODEL.ESCNET.update({"SOFTMAX": "class", "ALPHA": 0.6, "PROMPT_DROPOUT": 0.5})
    head = ESCNetHead(tiny_cfg, clip_dim=D, clip_width=WIDTH, num_templates=1)
    kept = []
    for seed in range(8):
        torch.manual_seed(seed)
        found = [p.has_foreground.any(dim=1) for p in head(features, text, TEMPERATURE).prompts]
        assert all(torch.equal(block, found[0]) for block in found)
        kept += found[0].tolist()
    assert 0 < sum(kept) < len(kept)
    assert all(p.has_foreground.any(dim=1).all() for p in head.eval()(features, text, 5.0).prompts)


@pytest.mark.parametrize("chunk", [1, 5, 12, 100])
def test_chunks_change_nothing(head, features, text, chunk):
    expected = head(features, text, TEMPERATURE).logits
    head.class_chunk_size = chunk
    torch.testing.assert_close(
        head(features, text, TEMPERATURE).logits, expected, rtol=1e-4, atol=1e-5
    )


def test_recomputing_changes_nothing_but_memory(tiny_cfg, features, text):
    tiny_cfg.MODEL.SAM.TRAIN = False  # Trained, it keeps the most, and is not recomputed.

    def trained(head):
        return [(n, p) for n, p in head.named_parameters() if p.requires_grad]

    def run(recompute):
        torch.manual_seed(0)
        tiny_cfg.MODEL.ESCNET.GRADIENT_CHECKPOINTING = recompute
        head = ESCNetHead(tiny_cfg, clip_dim=D, clip_width=WIDTH, num_templates=1).train()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: kept.append(x.numel()) or x, lambda x: x
        ):
            logits = head(features, text, TEMPERATURE).logits
        loss = (logits * torch.linspace(-1, 1, logits.shape[-1])).mean()
        loss.backward()
        return loss, {n: p.grad for n, p in trained(head)}, sum(kept)

    loss, gradients, kept = run(False)
    loss_again, gradients_again, kept_less = run(True)
    torch.testing.assert_close(loss_again, loss)
    torch.testing.assert_close(gradients_again, gradients)
    assert kept_less < 0.5 * kept


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
    tiny_cfg.MODEL.ESCNET.SAM_OUTPUTS = list(SAM_OUTPUTS)
    sizes = {"clip_dim": D, "clip_width": WIDTH, "num_templates": 1}
    with_sam = ESCNetHead(tiny_cfg, **sizes).eval()
    tiny_cfg.MODEL.ESCNET.USE_SAM = False
    without = ESCNetHead(tiny_cfg, **sizes).eval()
    left_out = without.load_state_dict(with_sam.state_dict(), strict=False)
    assert not left_out.missing_keys
    of_sam = (".sam.", ".from_sam.", ".pooling.", ".own_", "sam_adapter.")
    assert all(any(part in k for part in of_sam) for k in left_out.unexpected_keys)
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
