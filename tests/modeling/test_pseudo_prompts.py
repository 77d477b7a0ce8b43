import numpy as np
import pytest
import torch

from escnet_d2 import get_cfg
from escnet_d2.modeling.escnet import PseudoPromptGenerator


def test_hand_worked():
    """Two classes on a 4 x 6 map: a cat at the left and the right border, the rest dog.

    With logits log(p) a softmax over the classes gives p back. The cat's probabilities:

        .9 .6 .1 .1 .1 .1
        .7 .1 .1 .1 .1 .6
        .1 .1 .1 .1 .1 .8
        .1 .1 .1 .1 .1 .1

    alpha = .5 leaves five pixels. k = 2: the first center is the best pixel (0, 0); the farthest
    pixel is (5, 2); so the regions are {(0, 0), (1, 0), (0, 1)} and {(5, 1), (5, 2)}.
    """
    cat = torch.full((4, 6), 0.1)
    cat[0, 0], cat[0, 1], cat[1, 0], cat[1, 5], cat[2, 5] = 0.9, 0.6, 0.7, 0.6, 0.8
    logits = torch.stack([cat, 1 - cat]).log().unsqueeze(0)
    prompts = PseudoPromptGenerator(softmax="class", alpha=0.5, num_points=2)(logits)

    assert prompts.points[0, 0].tolist() == [[0.0, 0.0], [5.0, 2.0]]
    assert prompts.point_labels[0, 0].tolist() == [1, 1]
    regions = torch.full((4, 6), -1)
    regions[0, 0] = regions[0, 1] = regions[1, 0] = 0
    regions[1, 5] = regions[2, 5] = 1
    assert prompts.regions[0, 0].tolist() == regions.tolist()
    torch.testing.assert_close(prompts.masks[0, 0], cat * (regions >= 0))
    # The dog has the other 19 pixels.
    assert (prompts.regions[0, 1] >= 0).sum() == 19
    assert prompts.has_foreground.tolist() == [[True, True]]


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.75])
def test_foreground_begins_at_alpha(alpha):
    probability = torch.tensor([[0.95, 0.99, 1.01, 1.05]]) * alpha
    logits = torch.stack([probability, 1 - probability]).log().unsqueeze(0)
    generator = PseudoPromptGenerator(softmax="class", num_points=1, alpha=alpha)
    assert (generator(logits).regions[0, 0] >= 0).tolist() == [[False, False, True, True]]
    # alpha itself is foreground.
    generator = PseudoPromptGenerator(softmax="class", alpha=0.5, num_points=1)
    assert (generator(torch.zeros(1, 2, 1, 3)).regions[0] == 0).all()


def test_few_and_no_foreground_pixels():
    probability = torch.full((3, 5, 5), 0.01)
    probability[0, 1, 2] = 0.6  # one pixel for five points
    probability[2] = 1 - probability[:2].sum(dim=0)
    prompts = PseudoPromptGenerator(softmax="class", alpha=0.5, num_points=5)(
        probability.log().unsqueeze(0)
    )
    assert prompts.point_labels[0, 0].tolist() == [1, -1, -1, -1, -1]
    assert prompts.points[0, 0, 0].tolist() == [2.0, 1.0]
    assert prompts.point_labels[0, 1].tolist() == [-1] * 5
    assert prompts.masks[0, 1].abs().sum() == 0
    assert prompts.has_foreground[0].tolist() == [True, False, True]


def test_relative_probability_does_not_depend_on_the_other_classes():
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]]).view(1, 2, 1, 2)
    generator = PseudoPromptGenerator(alpha=0.3)
    expected = torch.tensor([[1.0, np.exp(-3)], [np.exp(-1), 1.0]]).view(1, 2, 1, 2).float()
    torch.testing.assert_close(generator.probability(logits), expected)
    # A hundred unlikely classes more: a softmax would push all below alpha.
    more = torch.cat([logits, torch.zeros(1, 100, 1, 2)], dim=1)
    torch.testing.assert_close(generator.probability(more)[:, :2], expected)
    assert generator(more).regions[0, :2].ge(0).flatten().tolist() == [True, False, True, True]


def test_the_best_patch_is_not_the_first_that_wins():
    """Where a class is the likeliest its relative probability is 1 everywhere."""
    logits = torch.tensor([[1.0, 2.0, 3.0, 2.5], [0.0, 0.0, 0.0, 0.0]]).view(1, 2, 2, 2)
    prompts = PseudoPromptGenerator(num_points=1)(logits)
    assert prompts.regions[0, 0].tolist() == [[0, 0], [0, 0]]
    assert prompts.points[0, 0, 0].tolist() == [0.0, 1.0]
    torch.testing.assert_close(prompts.masks[0, 0], torch.ones(2, 2))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_thresholds_without_a_logit_are_refused(alpha):
    with pytest.raises(ValueError, match=r"ALPHA must be in \(0, 1\)"):
        PseudoPromptGenerator(alpha=alpha)


def test_spatial_softmax_has_maximum_one():
    logits = torch.randn(2, 3, 4, 5)
    generator = PseudoPromptGenerator(softmax="spatial", alpha=0.5)
    got = generator.probability(logits)
    soft = logits.flatten(2).softmax(dim=2)
    expected = soft / soft.amax(dim=2, keepdim=True)
    torch.testing.assert_close(got.flatten(2), expected)
    assert generator(logits).has_foreground.all()


def test_one_class_covers_everything():
    prompts = PseudoPromptGenerator()(torch.randn(1, 1, 3, 3))
    assert (prompts.masks == 1).all()


def test_no_gradient():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    assert not PseudoPromptGenerator()(logits).masks.requires_grad


def test_defaults_are_those_of_the_configuration():
    generator, node = PseudoPromptGenerator(), get_cfg().MODEL.ESCNET
    for key in ("SOFTMAX", "ALPHA", "NUM_POINTS", "KMEANS_ITERATIONS"):
        assert getattr(generator, key.lower()) == node[key]
