"""Phrases, region batches, the contrast and its measurement."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from escnet_d2.config import get_cfg
from escnet_d2.engine import find_config
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.projects.shapes import THINGS, prepare_split
from escnet_d2.projects.shapes.pretraining.captions import (
    FULL_PHRASES,
    SENTENCES,
    Phrase,
    all_phrases,
    drop_attributes,
    truth_table,
)
from escnet_d2.projects.shapes.pretraining.clip_accuracy import clip_accuracy
from escnet_d2.projects.shapes.pretraining.clip_start import teach_text_tower
from escnet_d2.projects.shapes.pretraining.export import export_weights, known_token_ids
from escnet_d2.projects.shapes.pretraining.loop import run_pretraining
from escnet_d2.projects.shapes.pretraining.region_batches import RegionBatches, box_weights
from escnet_d2.projects.shapes.pretraining.region_clip import RegionClip, region_loss
from escnet_d2.weights import load_state_dict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare_split(tmp_path_factory.mktemp("shapes"), "pretrain", num_scenes=6)


@pytest.fixture
def model():
    cfg = get_cfg()
    cfg.merge_from_file(find_config("escnet_tiny_shapes"))
    cfg.MODEL.CLIP.WEIGHTS, cfg.MODEL.CLIP.FINETUNE = "random", "full"
    return RegionClip(ClipEncoder(cfg))


def make_batches(folder, batch_size=2):
    return RegionBatches(folder, patch_size=8, batch_size=batch_size, seed=3)


def test_phrases_read_like_captions():
    assert Phrase("striped", "red", "circle").text == "striped red circle"
    assert Phrase(color="red").text == "red thing"
    assert Phrase(ground="grass").text == "grass"
    # Five colors or none, and so on, but not nothing at all; and the grounds.
    assert len(all_phrases()) == len({phrase.text for phrase in all_phrases()}) == 4 * 6 * 5 - 1 + 6


def test_truth_of_phrases():
    item = Phrase("striped", "red", "circle")
    assert Phrase(color="red", shape="circle").is_true_of(item)
    assert not Phrase(color="red", shape="bar").is_true_of(item)
    assert not Phrase(ground="grass").is_true_of(item)
    assert not Phrase(color="red").is_true_of(Phrase(ground="grass"))
    table = truth_table([Phrase(color="red"), item], [item, Phrase("plain", "red", "circle")])
    assert table.tolist() == [[True, True], [True, False]]


def test_dropped_attributes_leave_a_true_phrase():
    rng = np.random.RandomState(0)
    item = Phrase("striped", "red", "circle")
    drawn = {drop_attributes(rng, item, 1.0) for _ in range(200)}
    assert len(drawn) == 6
    assert item not in drawn
    assert all(phrase.is_true_of(item) for phrase in drawn)
    assert drop_attributes(rng, item, 0.0) == item
    assert drop_attributes(rng, Phrase(ground="sand"), 1.0) == Phrase(ground="sand")


def test_the_text_tower_tells_phrases_apart_in_any_sentence(model):
    text = model.clip.text
    names = ["striped red circle", "dotted blue bar", "grass", "red thing"]

    def worst():
        """Least agreement of one phrase in two sentences, and greatest of two phrases."""
        with torch.no_grad():
            first, second = (
                text.encode_sentences([sentence.format(name) for name in names])
                for sentence in SENTENCES[1:3]
            )
        cosine = first @ second.t()
        return cosine.diagonal().min(), cosine.fill_diagonal_(-1).max()

    torch.manual_seed(0)
    same, other = worst()
    assert same < other + 0.3
    teach_text_tower(model.clip, iterations=30)
    same, other = worst()
    assert same > other + 0.3
    opened = {name for name, p in model.clip.model.named_parameters() if p.requires_grad}
    assert all(name.startswith("visual.") or name == "logit_scale" for name in opened)


def test_box_weights_by_hand():
    # Three quarters of a box of 16 x 16 at (8, 8): 12 x 12 from (10, 10), 6 pixels in each patch.
    weights = box_weights((8, 8, 24, 24), (32, 32), 8)
    assert weights.shape == (4, 4)
    expected = np.zeros((4, 4))
    expected[1:3, 1:3] = 0.25
    np.testing.assert_allclose(weights, expected)


def test_region_loss_by_hand():
    logits = torch.tensor([[2.0, 1.0, 0.5], [0.3, 1.5, -1.0]])
    target = torch.tensor([0, 1])
    # Phrase 1 is true of region 0 as well, so it is not a negative of it.
    is_true = torch.tensor([[True, True, False], [False, True, False]])
    to_phrase = -(
        torch.log_softmax(torch.tensor([2.0, 0.5]), 0)[0]
        + torch.log_softmax(torch.tensor([0.3, 1.5, -1.0]), 0)[1]
    )
    # Phrase 0 among both regions; phrase 1 has region 1 alone; phrase 2 was not drawn.
    to_region = -torch.log_softmax(torch.tensor([2.0, 0.3]), 0)[0]
    expected = (to_phrase / 2 + to_region / 2) / 2
    torch.testing.assert_close(region_loss(logits, target, is_true), expected)


def test_regions_that_drew_one_phrase_are_all_its_positives():
    logits = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    target = torch.tensor([0, 0])
    loss = region_loss(logits, target, torch.tensor([[True, False], [True, False]]))
    to_phrase = F.cross_entropy(logits, target)
    torch.testing.assert_close(loss, to_phrase / 2)  # The phrase has no negative region.


def test_batches_depend_on_seed_and_iteration_alone(folder):
    batches = make_batches(folder)
    later = next(islice(batches(5), 2, None))
    again = make_batches(folder).batch(7)
    assert torch.equal(later.images, again.images)
    assert torch.equal(later.pooling, again.pooling)
    assert later.phrases == again.phrases
    assert not torch.equal(batches.batch(8).images, again.images)


def test_a_batch_is_consistent(folder):
    batch = make_batches(folder).batch(0)
    assert batch.images.shape == (2, 3, 192, 192)
    assert batch.captions is not None
    assert len(batch.captions) == 2
    assert make_batches(folder).batch(1).captions is None
    regions = len(batch.target)
    assert batch.pooling.shape == (regions, 576)
    torch.testing.assert_close(batch.pooling.sum(dim=1), torch.ones(regions))
    # Boxes, never a single patch.
    assert batch.pooling.amax(dim=1).max() < 0.5
    assert batch.is_true[torch.arange(regions), batch.target].all()
    assert len(batch.phrases) >= len(FULL_PHRASES)


def test_region_features_are_means_of_unit_patches(model):
    images = torch.randn(2, 3, 192, 192)
    pooling = torch.zeros(2, 576)
    pooling[0, 17] = 1
    pooling[1, [3, 4]] = 0.5
    features = model.region_features(images, pooling, torch.tensor([1, 0]))
    dense = F.normalize(model.clip.encode_image(images).dense.flatten(2), dim=1)
    torch.testing.assert_close(features[0], dense[1, :, 17])
    expected = F.normalize(dense[0, :, 3] + dense[0, :, 4], dim=0)
    torch.testing.assert_close(features[1], expected)


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_uninterrupted_one(folder, model, tmp_path):
    options = {
        "max_iter": 3,
        "base_lr": 1e-3,
        "warmup_iters": 2,
        "checkpoint_period": 2,
    }
    start = {name: value.clone() for name, value in model.state_dict().items()}
    run_pretraining(model, make_batches(folder), tmp_path / "whole", resume=False, **options)
    whole = {name: value.clone() for name, value in model.state_dict().items()}
    assert not torch.equal(whole["clip.model.visual.proj"], start["clip.model.visual.proj"])

    model.load_state_dict(start)

    def two_batches(first):
        yield from islice(make_batches(folder)(first), 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pretraining(model, two_batches, tmp_path / "cut", resume=False, **options)
    model.load_state_dict(start)  # What is left of the run is on disk.
    run_pretraining(model, make_batches(folder), tmp_path / "cut", resume=True, **options)
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_exported_weights_name_things_as_before(folder, model, tmp_path):
    path = tmp_path / "clip.safetensors"
    ids = known_token_ids(model.clip.text.tokenizer, folder)
    export_weights(model.clip.model.state_dict(), path, ids)
    assert path.stat().st_size < 5e6
    loaded = load_state_dict(path)
    original = model.clip.model.state_dict()
    assert loaded.keys() == original.keys()
    rows = loaded["token_embedding.weight"]
    assert rows.shape == original["token_embedding.weight"].shape
    torch.testing.assert_close(rows[ids], original["token_embedding.weight"][ids].half())
    unknown = next(i for i in range(len(rows)) if i not in set(ids))
    torch.testing.assert_close(rows[unknown], rows[ids].float().mean(dim=0).half())

    before = model.clip.text.encode_sentences([thing.name for thing in THINGS[:5]])
    model.clip.model.load_state_dict(loaded)
    after = model.clip.text.encode_sentences([thing.name for thing in THINGS[:5]])
    torch.testing.assert_close(after, before, atol=2e-3, rtol=0)


def test_accuracy_of_a_model_that_knows_nothing_is_chance(folder, model):
    scores = clip_accuracy(model.eval(), folder)
    assert {"texture", "color", "shape", "name", "patch_name", "unseen_name"} <= set(scores)
    assert scores["name"] <= min(scores["texture"], scores["color"], scores["shape"])
    assert scores["name"] < 0.2


def test_accuracy_of_a_model_that_reads_the_answer(folder, model, monkeypatch):
    # Text embeddings and regions that agree: one axis for each name.
    boxes = [item for scene in make_batches(folder).scenes for item in _names(scene)]
    axes = torch.eye(len(THINGS))
    names = [thing.name for thing in THINGS]
    monkeypatch.setattr(model.clip.text, "encode_sentences", lambda _: axes)

    def features(images, pooling, owner):
        rows = [row for name in boxes for row in [axes[names.index(name)]] * 2]
        return torch.stack(rows)

    monkeypatch.setattr(model, "region_features", features)
    assert clip_accuracy(model.eval(), folder)["name"] == 1


def _names(scene):
    return [
        f"{thing['texture']} {thing['color']} {thing['shape']}"
        for thing in scene["things"]
        if thing["visible"] >= 0.6
    ]
