"""Training on some of the classes: which ones, and the same loss as on their own."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from escnet_d2.layers.class_subsets import sample_entries
from escnet_d2.structures import Vocabulary

HARDNESS = torch.tensor([[0.1, 0.9, 0.8, 0.2, 0.3, 0.7, 0.4, 0.0]])
PRESENT = torch.tensor([[True, *[False] * 6, True]])


def test_present_and_hardest_classes_are_kept():
    drawn = [sample_entries(HARDNESS, PRESENT, 6)[0].tolist() for _ in range(40)]
    for entries in drawn:
        assert entries == sorted(entries)
        assert len(set(entries)) == 6
        # Two present, the two hardest of the absent ones, two of any.
        assert {0, 7, 1, 2} <= set(entries)
    others = {entry for entries in drawn for entry in entries} - {0, 7, 1, 2}
    assert others == {3, 4, 5, 6}


def test_others_come_from_those_that_compete_in_testing():
    drawn = [sample_entries(HARDNESS, PRESENT, 5, likeliest=5)[0].tolist() for _ in range(40)]
    assert all({0, 7, 1} <= set(entries) for entries in drawn)
    assert {entry for entries in drawn for entry in entries} - {0, 7, 1} == {2, 4, 5, 6}
    # They do not suffice: four of the likeliest are absent, six are asked for.
    for _ in range(10):
        entries = sample_entries(HARDNESS, PRESENT, 8, likeliest=5)[0].tolist()
        assert {0, 7, 1, 2, 4, 5, 6} <= set(entries)


def test_all_present_classes_are_kept_whatever_the_number():
    present = torch.tensor([[True] * 5 + [False] * 3, [True] + [False] * 7])
    entries = sample_entries(torch.rand(2, 8), present, 2)
    assert entries.shape == (2, 5)
    assert entries[0].tolist() == [0, 1, 2, 3, 4]
    assert 0 in entries[1].tolist()


def test_without_labels_the_hardest_and_any():
    entries = sample_entries(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), None, 2)
    assert 3 in entries[0].tolist()


def test_the_loss_is_that_of_the_kept_classes(tiny_cfg, batch, vocabulary):
    # Every class is in the first image, so that all five must be kept among eight.
    wide = Vocabulary.from_classes([*vocabulary.class_names, "x", "y", "z"])
    tiny_cfg.MODEL.ESCNET.TRAIN_CLASSES = 3
    model = build_model(tiny_cfg).train()
    one = [{**batch[0], "vocabulary": wide}]
    alone = [{**batch[0], "vocabulary": vocabulary}]
    torch.testing.assert_close(model(one)["loss_sem_seg"], model(alone)["loss_sem_seg"])


def test_the_loss_is_that_of_the_classes_whose_synonyms_are_kept(tiny_cfg, batch):
    # All classes of the first image have a synonym; "x" to "z" are not there, and may be left out.
    classes = [(f"class {index}", f"synonym {index}") for index in range(5)]
    few = Vocabulary.from_classes(classes, synonyms="max")
    wide = Vocabulary.from_classes([*classes, "x", "y", "z"], synonyms="max")
    tiny_cfg.MODEL.ESCNET.update({"TRAIN_CLASSES": 10, "NUM_BLOCKS": 3, "AUX_LOSS_WEIGHT": 0.3})
    model = build_model(tiny_cfg).train()
    losses = [model([{**batch[0], "vocabulary": vocabulary}]) for vocabulary in (wide, few)]
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[1].items():
        torch.testing.assert_close(losses[0][name], value)


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
