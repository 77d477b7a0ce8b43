"""Masks without names: SAM's, how points are chosen, how parts are merged and masks broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from torch.nn import functional as F

from escnet_d2.engine import load_config
from escnet_d2.modeling.masks import MaskFinder, mask_groups, merge_masks
from escnet_d2.modeling.masks.noise import break_masks
from escnet_d2.modeling.masks.point_choice import cluster_points
from escnet_d2.modeling.masks.sam_masks import SamMasks
from escnet_d2.modeling.masks.sources import build_mask_source
from escnet_d2.modeling.sam import build_full_sam
from escnet_d2.weights import WeightsError


@pytest.fixture(scope="module")
def sam():
    return build_full_sam(load_config("sam_mi_tiny").MODEL.SAM)


@pytest.fixture
def image():
    """Three plain rectangles on a plain ground, (3, 120, 160)."""
    image = torch.full((3, 120, 160), 90.0)
    image[:, 10:60, 10:60] = torch.tensor([220.0, 30, 30])[:, None, None]
    image[:, 70:110, 20:80] = torch.tensor([30.0, 200, 60])[:, None, None]
    image[:, 30:100, 100:150] = torch.tensor([20.0, 40, 230])[:, None, None]
    return image


def test_masks_are_those_of_sams_automatic_generator(image):
    sam = build_full_sam(load_config("sam_mi_tiny").MODEL.SAM)
    # Three masks for each point, which the tiny SAM has not learned: its one, a little changed.
    decoder = sam.mask_decoder
    for index in (1, 2, 3):
        decoder.mask_tokens.weight[index] = decoder.mask_tokens.weight[0] + 0.2 * torch.randn(64)
        state = decoder.output_hypernetworks_mlps[0].state_dict()
        decoder.output_hypernetworks_mlps[index].load_state_dict(state)
        decoder.output_hypernetworks_mlps[index].layers[-1].weight *= 5
    filters = {"stability_score_thresh": 0.15, "pred_iou_thresh": 0.0, "box_nms_thresh": 0.8}
    official = SamAutomaticMaskGenerator(sam, points_per_side=8, **filters)
    records = official.generate(image.byte().permute(1, 2, 0).numpy())
    ours = SamMasks(sam, stability_threshold=0.15, iou_threshold=0.0, nms_threshold=0.8)
    points = official.point_grids[0] * np.array([160, 120])
    masks = ours(image, points)
    assert 3 < len(records) < 36 * 3
    expected = {record["segmentation"].tobytes() for record in records}
    assert {mask.numpy().tobytes() for mask in masks} == expected


def test_filters_and_points_decide(sam, image):
    points = np.array([[35.0, 35], [50, 90], [125, 65]])
    loose = SamMasks(sam, multimask=False, iou_threshold=0, stability_threshold=0)
    assert 1 <= len(loose(image, points)) <= 3
    strict = SamMasks(sam, multimask=False, iou_threshold=9)
    for masks in (strict(image, points), loose(image, points[:0])):
        assert masks.shape == (0, 120, 160) and masks.dtype == torch.bool
    one_by_one = SamMasks(
        sam, multimask=False, iou_threshold=0, stability_threshold=0, points_per_batch=1
    )
    assert torch.equal(loose(image, points), one_by_one(image, points))


def test_points_lie_in_the_middle_of_what_is_alike():
    probability = torch.zeros(3, 9, 12)
    probability[0, :, :6], probability[1, :, 6:] = 1.0, 1.0
    (left, row), (right, other_row) = sorted(cluster_points(probability, 2).tolist())
    assert left in (2, 3) and right in (8, 9) and row == other_row == 4
    # A small thing in a corner has a point of its own, and the rest is spread.
    probability[:, :3, :3] = torch.tensor([0.0, 0, 1])[:, None, None]
    points = cluster_points(probability, 6)
    assert [1, 1] in points.tolist() and len(points) == 6
    apart = ((points[:, None] - points) ** 2).sum(axis=2)
    assert apart[~np.eye(6, dtype=bool)].min() >= 4
    # The numbers of classes mean nothing, and no more points than patches are there.
    shuffled = cluster_points(probability[[2, 0, 1]], 6)
    assert sorted(shuffled.tolist()) == sorted(points.tolist())
    assert len({tuple(point) for point in cluster_points(probability, 1000)}) == 9 * 12


def squares(*boxes):
    masks = torch.zeros(len(boxes), 16, 16)
    for mask, (top, left, bottom, right) in zip(masks, boxes):
        mask[top:bottom, left:right] = 1
    return masks


def test_masks_merge_where_they_touch_and_look_alike():
    features = torch.zeros(2, 4, 4)
    features[0, :, :2], features[1, :, 2:] = 1.0, 1.0
    # Two halves of the left side, one right, one left but apart, one inside the first.
    masks = squares((0, 0, 8, 4), (8, 0, 16, 4), (0, 8, 16, 16), (0, 6, 2, 8), (2, 0, 4, 2))
    groups = mask_groups(masks, features, 0.9)
    assert groups.tolist() == [0, 0, 2, 3, 0]
    merged = merge_masks(masks, groups)
    assert torch.equal(merged, squares((0, 0, 16, 4), (0, 8, 16, 16), (0, 6, 2, 8)))
    assert torch.equal(merge_masks(masks.bool(), groups), merged.bool())
    assert merge_masks(masks[:0].bool(), groups[:0]).shape == (0, 16, 16)


def test_chains_do_not_join_what_differs():
    """Neighbors are alike all the way down, but not the first and the last."""
    angle = torch.arange(4) * 0.5
    features = torch.stack([angle.cos(), angle.sin()]).unsqueeze(2).expand(2, 4, 4)
    # The image's mean is taken off, which the far corner brings to zero.
    rows = squares(*((2 * i, 0, 2 * i + 2, 4) for i in range(8)))
    features = torch.cat([features[:, :, :1], -features[:, :, :1]], dim=2)
    features = features.repeat_interleave(2, dim=2)
    groups = mask_groups(rows, features, 0.8)
    assert groups.tolist() == [0, 0, 0, 0, 4, 4, 4, 4]
    # One group where the ends are alike enough, too.
    assert len(mask_groups(rows, features, -0.1).unique()) == 1
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    shuffled = mask_groups(rows[order], features, 0.8)
    assert torch.equal(shuffled[:, None] == shuffled, (groups[:, None] == groups)[order][:, order])


def test_rivals_that_overlap_a_little_stay_apart():
    features = torch.ones(2, 4, 4)
    features[0, 0, 0] = 2.0
    masks = squares((0, 0, 8, 8), (0, 6, 8, 16))
    assert mask_groups(masks, features, -1.0).tolist() == [0, 1]


def test_noise_breaks_a_share_of_the_masks_always_alike():
    generator = torch.Generator().manual_seed(1)
    masks = (
        F.interpolate(torch.rand(40, 1, 4, 4, generator=generator), size=(24, 24)).squeeze(1) > 0.5
    )
    assert break_masks(masks, 0.0) is masks
    broken = break_masks(masks, 0.5)
    assert torch.equal(broken, break_masks(masks, 0.5))
    known = {mask.numpy().tobytes() for mask in masks}
    intact = sum(mask.numpy().tobytes() in known for mask in broken)
    assert 12 <= intact <= 28
    assert sum(m.numpy().tobytes() in known for m in break_masks(masks, 1.0)) <= 4
    assert break_masks(masks[:0], 1.0).shape == (0, 24, 24)


@pytest.mark.parametrize(
    ("opts", "error", "message"),
    [
        (["MODEL.MASKS.SOURCE", "net"], ValueError, "SOURCE must be one of sam, grid, file, truth"),
        (["MODEL.MASKS.NOISE", 2.0], ValueError, r"NOISE must be in \[0, 1\], got 2.0"),
        (["MODEL.MASKS.NUM_POINTS", 0], ValueError, "NUM_POINTS must be 1 or more"),
        (["MODEL.MASKS.GRID_SIDE", 0], ValueError, "GRID_SIDE must be 1 or more"),
        (["MODEL.SAM.EMBED_DIM", 256], WeightsError, "does not fit the sizes of MODEL.SAM"),
        (["MODEL.SAM.WEIGHTS", "vit_z"], WeightsError, "accepted: vit_b, vit_l, vit_h, the path"),
        (["MODEL.SAM.WEIGHTS", "clip_shapes"], WeightsError, "holds no image encoder of SAM"),
    ],
)
def test_bad_options_are_refused(opts, error, message):
    with pytest.raises(error, match=message):
        build_mask_source(load_config("sam_mi_tiny", opts))


def test_points_lie_in_the_image_though_the_view_is_padded():
    seen = {}

    class Source:
        needs_points, is_given = True, False

        def __call__(self, image, given, points):
            seen["points"] = points
            return given

    finder = MaskFinder(Source(), num_points=99)
    finder(torch.zeros(3, 30, 40), torch.randn(2, 4, 4), (64, 64))
    points = seen["points"]
    # Of patches of 16 pixels, two rows and two columns have their centers in the image.
    assert sorted(points.tolist()) == [[8, 8], [8, 24], [24, 8], [24, 24]]
    finder(torch.zeros(3, 64, 32), torch.randn(2, 4, 4), (64, 32))
    assert sorted(set(seen["points"][:, 0])) == [4, 12, 20, 28]
