"""The probe of ESC-Net's prompts: what replaces them, and the program."""

import json

import numpy as np
import pytest
import torch

from escnet_d2.modeling.escnet import PseudoPromptGenerator

# The upper right quarter of a grid of 4 x 4 patches, of 2 x 2 pixels each.
TRUTH = torch.zeros(4, 4)
TRUTH[:2, 2:] = 1
LABELS = np.kron(TRUTH.int(), np.ones((2, 2), int))


@pytest.fixture(scope="module")
def program(load_program):
    return load_program("tools/probe_prompts.py")


@pytest.fixture
def probe(program, tiny_model):
    return program.PromptProbe(tiny_model)


def prompts_of(*masks):
    """Prompts of classes that are sure of these pixels of a 4 x 4 grid."""
    probability = torch.zeros(1, len(masks), 4, 4)
    for index, pixels in enumerate(masks):
        for row, column in pixels:
            probability[0, index, row, column] = 1
    return PseudoPromptGenerator(alpha=0.5).from_probability(probability)


def test_permuted_prompts_go_round_the_prompted_classes(program):
    own = prompts_of([(0, 0)], [], [(1, 1), (1, 2)], [(3, 3)])
    moved = program.permute(own)
    for target, source in ((0, 3), (2, 0), (3, 2), (1, 1)):
        assert torch.equal(moved.points[0, target], own.points[0, source])
        assert torch.equal(moved.masks[0, target], own.masks[0, source])
    assert not program.remove(own).has_foreground.any()


def test_regions_are_connected_and_of_one_label(program):
    labels = np.array([[0, 0, 1], [1, 1, 0], [-1, 1, 0]])
    regions = program.connected_regions(labels)
    # Corners connect: the ones are one region, the zeros at the top and at the right another.
    assert len(np.unique(regions)) == 3
    for region in np.unique(regions):
        assert len(np.unique(labels[regions == region])) == 1


def test_each_mask_becomes_the_true_region_that_most_points_hit(program, tiny_model):
    block = program.TrueMasks(tiny_model.sem_seg_head.blocks[0].sam, LABELS)
    points = torch.tensor(
        [[[3.0, 0.0], [2.0, 1.0], [0.0, 0.0]], [[0.0, 3.0], [1.0, 1.0], [3.0, 0.0]]]
    )
    labels = torch.tensor([[1, 1, 1], [1, -1, -1]])
    inputs = (torch.randn(1, 64, 4, 4), block.image_position(4, 4), points, labels)
    refined, logits = block(*inputs, torch.zeros(2, 4, 4))
    shares = torch.nn.functional.avg_pool2d((logits > 0).float(), 4)
    assert torch.equal(shares, torch.stack([TRUTH, 1 - TRUTH]))
    assert torch.equal(refined, block.sam(*inputs, torch.zeros(2, 4, 4))[0])


def test_truth_replaces_the_prompts_of_present_classes_only(probe):
    own = prompts_of([(3, 3)], [(3, 0)], [(0, 0)])
    corrected = probe._correct(own, LABELS, [0, 1, 2])
    assert torch.equal(corrected.masks[0, 1], TRUTH)
    assert torch.equal(corrected.masks[0, 0], 1 - TRUTH)
    assert torch.equal(corrected.masks[0, 2], own.masks[0, 2])


def test_identity_leaves_sam_out_and_puts_it_back(program, probe, batch):
    model, inputs = probe.model, batch[0]
    labels = inputs["sem_seg"].numpy()
    trained = probe.segment(inputs, labels, "as_trained")
    without = probe.segment(inputs, labels, "identity")
    assert (trained != without).any()
    np.testing.assert_array_equal(probe.segment(inputs, labels, "as_trained"), trained)
    for block in model.sem_seg_head.blocks:
        torch.nn.init.zeros_(block.from_sam.weight)
        torch.nn.init.zeros_(block.pooling.projection.weight)
    np.testing.assert_array_equal(probe.segment(inputs, labels, "permuted_prompts"), without)


@pytest.mark.parametrize("use_sam", [True, False])
def test_the_program_scores_every_probe(program, prepared_folder, tmp_path, use_sam):
    folder = prepared_folder(tmp_path / "data", "probed", val=2)
    output = tmp_path / "probe.json"
    arguments = ["--config-file", "escnet_tiny", "--allow-untrained", "--dataset", "probed_val"]
    opts = ["DATASETS.FOLDERS", f"('{folder}',)", "MODEL.ESCNET.USE_SAM", str(use_sam)]
    program.main([*arguments, "--output", str(output), "--opts", *opts])
    content = json.loads(output.read_text())
    assert set(content["mIoU"]) == (set(program.PROBES) if use_sam else {"as_trained"})
    assert all(0 <= score <= 100 for score in content["mIoU"].values())


def test_true_prompts_find_their_regions_on_both_kinds_of_features(program, tmp_path):
    output = tmp_path / "probe.json"
    program.main(
        ["--config-file", "escnet_tiny_shapes", "--weights", "escnet_tiny_shapes"]
        + ["--dataset", "shapes_demo_sem_seg", "--images", "2", "--output", str(output)]
    )
    ious = json.loads(output.read_text())["mask_iou"]
    assert set(ious) == {
        f"{features}, {prompt}"
        for features in ("adapted", "SAM's own")
        for prompt in ("points", "mask")
    }
    assert min(ious.values()) > 0.5
