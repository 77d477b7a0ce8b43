import pytest
import torch
from torch.nn import functional as F

from escnet_d2.modeling.criterion import sem_seg_loss

TARGET = torch.tensor([[[0, 1, 2], [255, 3, -1]]])  # K = 3: 3, 255 and -1 are unlabeled


def one_hot(target, num_classes):
    return torch.stack([(target == k) for k in range(num_classes)], dim=1).float()


def test_bce_counts_unlabeled_pixels_as_negatives():
    logits = torch.randn(1, 3, 2, 3)
    expected = F.binary_cross_entropy_with_logits(logits, one_hot(TARGET, 3))
    torch.testing.assert_close(sem_seg_loss(logits, TARGET), expected)


def test_bce_can_skip_unlabeled_pixels():
    logits = torch.randn(1, 3, 2, 3)
    each = F.binary_cross_entropy_with_logits(logits, one_hot(TARGET, 3), reduction="none")
    labeled = ((TARGET >= 0) & (TARGET < 3)).unsqueeze(1)
    expected = (each * labeled).sum() / (3 * 3)
    torch.testing.assert_close(sem_seg_loss(logits, TARGET, unlabeled="skip"), expected)


def test_ce_skips_unlabeled_pixels():
    logits = torch.randn(1, 3, 2, 3)
    expected = F.cross_entropy(logits[:, :, 0], TARGET[:, 0])
    torch.testing.assert_close(sem_seg_loss(logits, TARGET, loss="ce"), expected)


@pytest.mark.parametrize(("loss", "unlabeled"), [("ce", "negative"), ("bce", "skip")])
def test_nothing_labeled(loss, unlabeled):
    logits = torch.randn(1, 3, 2, 3, requires_grad=True)
    value = sem_seg_loss(logits, torch.full((1, 2, 3), 255), loss=loss, unlabeled=unlabeled)
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.full((1, 2, 300, 300), 12.0, dtype=torch.float16)
    value = sem_seg_loss(logits, torch.full((1, 300, 300), 255))
    assert value.item() == pytest.approx(12.0, rel=1e-4)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_two_images_with_one_labeled_pixel(num_classes):
    logits = torch.randn(2, num_classes, 2, 3)
    target = torch.full((2, 2, 3), 255)
    target[1, 0, 2] = 0
    each = F.binary_cross_entropy_with_logits(
        logits, one_hot(target, num_classes), reduction="none"
    )
    pixel = logits[1, :, 0, 2]
    for options, expected in (
        ({}, each.mean()),
        ({"unlabeled": "skip"}, each[1, :, 0, 2].mean()),
        ({"loss": "ce"}, pixel.logsumexp(dim=0) - pixel[0]),
    ):
        torch.testing.assert_close(sem_seg_loss(logits, target, **options), expected)
