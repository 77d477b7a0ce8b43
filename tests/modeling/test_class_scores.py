import pytest
import torch
from torch.nn import functional as F

from escnet_d2.modeling.class_scores import class_scores, label_map, merge_entries, resize_scores
from escnet_d2.structures import Vocabulary


def test_best_entry_of_a_class_wins_and_gets_the_gradient():
    vocabulary = Vocabulary.from_classes(["couch|sofa|settee", "dog"], synonyms="max")
    logits = torch.tensor([0.1, 0.9, -3.0, 0.4]).view(1, 4, 1, 1).requires_grad_()
    merged = merge_entries(logits, vocabulary)
    assert merged.flatten().tolist() == pytest.approx([0.9, 0.4])
    merged.sum().backward()
    assert logits.grad.flatten().tolist() == [0.0, 1.0, 0.0, 1.0]


def test_scores_are_what_the_loss_trains():
    vocabulary = Vocabulary.from_classes(["a", "b", "c"])
    logits = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(class_scores(logits, vocabulary, "bce"), logits.sigmoid())
    torch.testing.assert_close(class_scores(logits, vocabulary, "ce"), logits.softmax(dim=1))


def test_background_by_threshold():
    vocabulary = Vocabulary.from_classes(
        ["a", "b"], background="threshold", background_threshold=0.4
    )
    logits = torch.tensor([[0.3, 0.5], [0.1, 0.2]]).logit().t().reshape(1, 2, 1, 2)
    scores = class_scores(logits, vocabulary, "bce")
    assert scores.shape == (1, 3, 1, 2)
    # Pixel 0: .3 and .5: b; pixel 1: .1 and .2: background.
    assert scores.argmax(dim=1).flatten().tolist() == [1, 2]


def test_background_words():
    vocabulary = Vocabulary.from_classes(["a"], background="words", background_words=["x", "y"])
    logits = torch.tensor([0.0, -1.0, 2.0]).view(1, 3, 1, 1)
    scores = class_scores(logits, vocabulary, "bce").flatten()
    torch.testing.assert_close(scores, torch.tensor([0.0, 2.0]).sigmoid())


@pytest.mark.parametrize("size", [(37, 53), (5, 6), (2, 1)])
@pytest.mark.parametrize("sharp", [1.0, 20.0])
def test_label_map_equals_arg_max(size, sharp):
    # Sharp maps let the bound drop classes; the result must not change.
    scores = (sharp * torch.randn(300, 5, 6)).sigmoid()
    scores[3] *= 1e-4
    full = resize_scores(scores, size)
    expected, labels = full.max(dim=0)
    got_labels, got_scores = label_map(scores, size)
    assert got_labels.dtype == torch.int32
    assert torch.equal(got_labels, labels.int())
    torch.testing.assert_close(got_scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_classes", [7, 300])
def test_strips_change_nothing(monkeypatch, num_classes):
    scores = torch.randn(num_classes, 5, 6).sigmoid()
    scores[4] = scores[1]
    whole = label_map(scores, (37, 53))
    monkeypatch.setattr("escnet_d2.modeling.class_scores._STRIP", 3 * 53)
    assert all(map(torch.equal, label_map(scores, (37, 53)), whole))


def test_large_images_resize_class_by_class(monkeypatch):
    scores = torch.randn(7, 5, 6).sigmoid()
    labels, best = label_map(scores, (37, 53))
    monkeypatch.setattr("escnet_d2.modeling.class_scores._LARGE_IMAGE", 37 * 53 - 1)
    one_by_one, one_by_one_best = label_map(scores, (37, 53))
    torch.testing.assert_close(one_by_one_best, best, rtol=0, atol=1e-6)
    second = resize_scores(scores, (37, 53)).topk(2, dim=0).values[1]
    decided = best - second > 1e-6
    assert torch.equal(one_by_one[decided], labels[decided])


def test_label_map_keeps_whatever_wins_anywhere():
    even = torch.full((4, 4), 0.5)
    # A class that is low on the average, and one that is never as high as the other's mean.
    spike = torch.zeros(4, 4)
    spike[1, 2] = 0.9
    steps = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(4, 4)
    for scores in (torch.stack([even, spike]), torch.stack([steps, 0.8 * even])):
        labels, best = label_map(scores, (4, 4))
        assert torch.equal(labels, scores.argmax(dim=0))
        assert torch.equal(best, scores.amax(dim=0))
        assert set(labels.flatten().tolist()) == {0, 1}


def test_ties_go_to_the_lower_class():
    labels, _ = label_map(torch.full((20, 3, 3), 0.5), (6, 6))
    assert (labels == 0).all()


def test_the_first_class_beyond_a_byte():
    scores = torch.zeros(257, 3, 3)
    scores[256] = 1.0
    assert (label_map(scores, (6, 6))[0] == 256).all()


def test_label_map_never_holds_all_classes(monkeypatch):
    sizes = []
    original = F.interpolate

    def recording(x, *args, **kwargs):
        out = original(x, *args, **kwargs)
        sizes.append(out.numel())
        return out

    monkeypatch.setattr(F, "interpolate", recording)
    label_map(torch.rand(100, 4, 4), (64, 64))
    assert max(sizes) <= 8 * 64 * 64
