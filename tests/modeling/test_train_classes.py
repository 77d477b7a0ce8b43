"""Training on some of the classes: which ones, what they count for, and their loss."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from escnet_d2.layers import ClassAttention
from escnet_d2.layers.class_subsets import sample_entries
from escnet_d2.structures import Vocabulary

PRESENT = torch.tensor([[True, *[False] * 6, True]])


def drawn(number, competing):
    is_competing = torch.zeros(1, 8, dtype=torch.bool)
    is_competing[0, list(competing)] = True
    return [sample_entries(is_competing, PRESENT, number) for _ in range(60)]


def test_present_classes_are_kept_and_the_others_stand_for_the_rest():
    for entries, weights in drawn(5, range(8)):
        entries = entries[0].tolist()
        assert entries == sorted(set(entries))
        assert len(entries) == 5
        assert {0, 7} <= set(entries)
        # Six are absent; three of them are drawn.
        assert weights[0].tolist() == [1.0 if entry in (0, 7) else 2.0 for entry in entries]
    found = {entry for entries, _ in drawn(5, range(8)) for entry in entries[0].tolist()}
    assert found == set(range(8))


def test_others_come_from_those_that_compete_in_testing():
    competing = {1, 2, 4, 5, 6}
    for entries, weights in drawn(4, competing):
        # Each of the two stands for two and a half.
        assert set(entries[0].tolist()) - {0, 7} <= competing
        assert sorted(weights[0].tolist()) == [1.0, 1.0, 2.5, 2.5]
    # They do not suffice: all of them, and any.
    for entries, weights in drawn(8, competing):
        assert entries[0].tolist() == list(range(8))
        assert (weights == 1).all()


def test_all_present_classes_are_kept_whatever_the_number():
    present = torch.tensor([[True] * 5 + [False] * 3, [True] + [False] * 7])
    entries, weights = sample_entries(torch.ones_like(present), present, 2)
    assert entries.shape == weights.shape == (2, 5)
    assert entries[0].tolist() == [0, 1, 2, 3, 4]
    assert 0 in entries[1].tolist()
    assert weights.sum(dim=1).tolist() == [5.0, 8.0]


@pytest.mark.parametrize("options", [{"MAX_CLASSES": 4}, {"MAX_CLASSES": 0, "VOTES_KEPT": 0.95}])
def test_training_draws_from_what_testing_computes(tiny_cfg, batch, options):
    tiny_cfg.MODEL.ESCNET.update({"TRAIN_CLASSES": 2, **options})
    model = build_model(tiny_cfg)
    names = Vocabulary.from_classes([f"class {index}" for index in range(12)])
    inputs = {**batch[0], "vocabulary": names, "sem_seg": torch.zeros_like(batch[0]["sem_seg"])}
    with torch.no_grad():
        computed = set(model.eval().inspect(inputs).entries[0].tolist())
    assert 2 < len(computed) < 12
    seen = []
    model.sem_seg_head.register_forward_hook(lambda *arguments: seen.append(arguments[-1].entries))
    for _ in range(10):
        model.train()([inputs])
    assert all(len(entries[0]) == 2 and 0 in entries[0].tolist() for entries in seen)
    assert {entry for entries in seen for entry in entries[0].tolist()} <= computed | {0}


def test_a_class_that_counts_twice_equals_two_of_it():
    attention = ClassAttention(dim=8, text_dim=4, num_heads=2, mlp_ratio=2.0)
    x, text = torch.randn(1, 3, 2, 2, 8), torch.randn(1, 3, 4)
    twice = attention(x[:, [0, 1, 2, 2]], text[:, [0, 1, 2, 2]], chunk_size=2)
    weighted = attention(x, text, 2, torch.tensor([[1.0, 1.0, 2.0]]))
    torch.testing.assert_close(weighted, twice[:, :3])


def test_the_loss_is_that_of_the_kept_classes(tiny_cfg, batch, vocabulary):
    # Every class is in the first image, so that all five must be kept among eight.
    wide = Vocabulary.from_classes([*vocabulary.class_names, "x", "y", "z"])
    tiny_cfg.MODEL.ESCNET.TRAIN_CLASSES = 3
    model = build_model(tiny_cfg).train()
    one = [{**batch[0], "vocabulary": wide}]
    alone = [{**batch[0], "vocabulary": vocabulary}]
    torch.testing.assert_close(model(one)["loss_sem_seg"], model(alone)["loss_sem_seg"])


@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_a_batch_with_few_classes_trains_all_parameters(tiny_cfg, batch, loss):
    # Two classes of two entries are in the images.
    names = [f"class {index}, synonym {index}" for index in range(12)]
    wide = Vocabulary.from_classes(names, synonyms="max")
    tiny_cfg.MODEL.ESCNET.TRAIN_CLASSES = 7
    tiny_cfg.MODEL.ESCNET.LOSS = loss
    model = build_model(tiny_cfg).train()
    for inputs in batch:
        inputs["vocabulary"] = wide
        inputs["sem_seg"] = inputs["sem_seg"].clamp(max=1) * 7
        inputs["sem_seg"][:5] = 255
    losses = model(batch)
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(torch.isfinite(value) for value in losses.values())


def test_testing_is_not_touched(tiny_cfg, tiny_model, batch):
    tiny_cfg.MODEL.ESCNET.TRAIN_CLASSES = 2
    model = build_model(tiny_cfg).eval()
    model.load_state_dict(tiny_model.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(model(batch), tiny_model(batch)):
            torch.testing.assert_close(ours["sem_seg"], theirs["sem_seg"])


@pytest.mark.parametrize(("train_classes", "weight"), [(0, 0.3), (6, 0.3), (0, 0.0)])
def test_losses_equal_their_formulas(tiny_cfg, batch, train_classes, weight):
    options = {"TRAIN_CLASSES": train_classes, "NUM_BLOCKS": 3, "AUX_LOSS_WEIGHT": weight}
    tiny_cfg.MODEL.ESCNET.update(options)
    model = build_model(tiny_cfg).train()
    for layer in model.sem_seg_head.map_heads:
        torch.nn.init.normal_(layer.weight)
    outputs = []
    model.sem_seg_head.register_forward_hook(lambda *arguments: outputs.append(arguments[-1]))
    for inputs in batch:
        inputs["vocabulary"] = Vocabulary.from_classes([f"class {index}" for index in range(8)])
        inputs["sem_seg"][:20], inputs["sem_seg"][20:30] = 255, 8  # Neither is a class.
    got = model(batch)
    [output] = outputs
    assert output.entries.shape == (2, train_classes or 8)

    expected = defaultdict(float)
    for b, inputs in enumerate(batch):
        one_hot = inputs["sem_seg"] == output.entries[b].view(-1, 1, 1)
        size = one_hot.shape[1:]
        logits = F.interpolate(output.logits[b : b + 1], size, mode="bilinear")[0]
        expected["loss_sem_seg"] += F.binary_cross_entropy_with_logits(logits, one_hot.float()) / 2
        for index in (1, 2) if weight else ():
            class_map = output.class_maps[index][b]
            # Labels at the centers of the cells.
            grid = class_map.shape[1:]
            rows, columns = (((torch.arange(n) + 0.5) * m / n).long() for n, m in zip(grid, size))
            cells = one_hot[:, rows[:, None], columns]
            target = torch.where(cells.any(dim=0), cells.int().argmax(dim=0), -100)
            aux = F.cross_entropy(class_map[None], target[None])
            expected[f"loss_sem_seg_aux{index}"] += weight / len(class_map) * aux / 2
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value)
