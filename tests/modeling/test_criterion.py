import pytest
import torch
from torch.nn import functional as F

from escnet_d2.modeling.criterion import sem_seg_loss

# With K = 3, the values 3, 255 and -1 are unlabeled.
THREE_LABELS = torch.tensor([[[0, 1, 2], [255, 3, -1]]])
ONE_LABEL = torch.full((2, 2, 3), 255)
ONE_LABEL[1, 0, 2] = 0


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


@pytest.mark.parametrize(
    ("target", "num_classes"), [(THREE_LABELS, 3), (ONE_LABEL, 3), (ONE_LABEL, 1)]
)
def test_losses_equal_their_formulas(target, num_classes):
    logits = torch.randn(len(target), 2, 3, num_classes)
    one_hot = torch.stack([target == k for k in range(num_classes)], dim=-1).float()
    each = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
    labeled = (target >= 0) & (target < num_classes)
    for options, expected in (
        ({}, each.mean()),
        ({"unlabeled": "skip"}, each[labeled].mean()),
        ({"loss": "ce"}, F.cross_entropy(logits[labeled], target[labeled])),
    ):
        got = sem_seg_loss(logits.movedim(-1, 1), target, **options)
        torch.testing.assert_close(got, expected)
