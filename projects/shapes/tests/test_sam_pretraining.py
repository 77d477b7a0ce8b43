"""Prompts, losses and scores of the tiny SAM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from escnet_d2.config import get_cfg
from escnet_d2.engine import find_config
from escnet_d2.modeling.sam import build_sam_blocks
from escnet_d2.projects.shapes import prepare_split
from escnet_d2.projects.shapes.pretraining.export import export_weights
from escnet_d2.projects.shapes.pretraining.prompt_batches import PromptBatches
from escnet_d2.projects.shapes.pretraining.sam_accuracy import sam_accuracy
from escnet_d2.projects.shapes.pretraining.tiny_sam import (
    PromptedSam,
    build_tiny_sam,
    grouping_loss,
    initialize_sam,
    mask_iou,
    mask_loss,
)


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    folder = prepare_split(tmp_path_factory.mktemp("shapes"), "sam", num_scenes=4)
    return PromptBatches(folder, batch_size=2, num_prompts=3, seed=0)


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.merge_from_file(find_config("escnet_tiny_shapes"))
    return cfg


def test_points_lie_on_their_targets(batches):
    for kind in ("points", "both"):
        batch = batches.probe(range(4), kind, 4)
        assert (batch.point_labels == 1).sum(dim=2).eq(4).all()
        assert batch.has_mask_prompt.eq(kind == "both").all()
        points = batch.points[..., :4, :].long()
        for image in range(4):
            for prompt in range(3):
                # Targets are every second pixel: a point lies on the target, or next to it.
                target = batch.targets[image, prompt]
                for x, y in points[image, prompt].tolist():
                    low_x, low_y = max(0, x // 2 - 1), max(0, y // 2 - 1)
                    assert target[low_y : y // 2 + 2, low_x : x // 2 + 2].any()


def test_mask_prompts_are_coarse_versions_of_their_targets(batches):
    batch = batches.probe(range(4), "mask", 1)
    assert (batch.point_labels == -1).all()
    assert batch.mask_prompts.shape == batch.targets.shape == (4, 3, 96, 96)
    inside = batch.mask_prompts[batch.targets].mean()
    outside = batch.mask_prompts[~batch.targets].mean()
    assert inside > outside + 3
    assert batch.mask_prompts.abs().max() <= 10


def test_batches_depend_on_seed_and_iteration_alone(batches):
    first, again = batches.batch(4), next(batches(4))
    assert torch.equal(first.points, again.points)
    assert torch.equal(first.mask_prompts, again.mask_prompts)
    assert not torch.equal(first.points, batches.batch(5).points)


def test_mask_loss_by_hand():
    logits = torch.tensor([[0.0, 2.0]])
    targets = torch.tensor([[True, False]])
    p = torch.tensor([[0.5, torch.tensor(2.0).sigmoid()]])
    focal = (
        0.25 * 0.5**2 * -torch.log(p[0, 0]) + 0.75 * p[0, 1] ** 2 * -torch.log(1 - p[0, 1])
    ) / 2
    dice = 1 - (2 * 0.5 + 1) / (p.sum() + 1 + 1)
    torch.testing.assert_close(mask_loss(logits, targets), 20 * focal + dice)


def test_mask_iou_by_hand():
    masks = torch.tensor([[[True, True], [False, False]], [[False, False], [False, False]]])
    targets = torch.tensor([[[True, False], [True, False]], [[False, False], [False, False]]])
    assert mask_iou(masks, targets).tolist() == pytest.approx([1 / 3, 1.0])


def test_training_lowers_the_loss(batches, cfg):
    model = PromptedSam(build_tiny_sam(cfg))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = batches.batch(0)
    losses = []
    for _ in range(8):
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_patches_are_grouped_by_what_they_show(batches):
    batch = batches.batch(0)
    assert batch.regions.shape == (2, 24, 24)
    embeddings = F.one_hot(batch.regions, 80).permute(0, 3, 1, 2).float()
    # Of one region cosine 1 and logit 5, else 0 and -5: right, and sure of it.
    assert grouping_loss(embeddings, batch.regions) == pytest.approx(np.log1p(np.exp(-5)), rel=1e-4)
    assert grouping_loss(embeddings.flip(1).roll(7, 3), batch.regions) > 0.3


def test_points_look_at_their_own_place_from_the_start(cfg):
    sam = build_tiny_sam(cfg)
    initialize_sam(sam)
    attention = sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    place = sam.prompt_encoder.get_dense_pe().flatten(2).transpose(1, 2)
    q, k = attention.q_proj(place), attention.k_proj(place)
    # Summed over the heads, the strongest key of a place is its own or next to it.
    best = (q @ k.transpose(1, 2)).argmax(dim=2)[0]
    places = torch.arange(24 * 24)
    distance = torch.stack([(best // 24 - places // 24).abs(), (best % 24 - places % 24).abs()])
    assert distance.max() <= 1


def test_accuracy_of_the_right_masks_is_one(batches, cfg, monkeypatch):
    model = PromptedSam(build_tiny_sam(cfg)).eval()

    def perfect(batch, embeddings):
        return batch.targets.float() * 2 - 1, torch.zeros(batch.targets.shape[:2])

    monkeypatch.setattr(model, "predict", perfect)
    assert set(sam_accuracy(model, batches).values()) == {1.0}


def test_the_exported_file_fills_esc_nets_sam_blocks(cfg, tmp_path):
    sam = build_tiny_sam(cfg)
    path = tmp_path / "sam.safetensors"
    export_weights(sam.state_dict(), path, ())
    cfg.MODEL.SAM.WEIGHTS = str(path)
    for block in build_sam_blocks(cfg):
        for name, value in block.state_dict().items():
            torch.testing.assert_close(value, sam.state_dict()[name].half().float())
