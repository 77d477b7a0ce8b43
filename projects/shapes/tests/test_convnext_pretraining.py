"""The pre-training of a ConvNeXt image tower for a text tower that stays as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from escnet_d2.engine import load_config
from escnet_d2.modeling.clip.convnext import pyramid_features
from escnet_d2.modeling.clip.encoder import build_clip_model
from escnet_d2.projects.shapes import prepare_split
from escnet_d2.projects.shapes.pretraining.clip_models import build_region_clip
from escnet_d2.projects.shapes.pretraining.clip_start import initialize_convnext, take_text_tower
from escnet_d2.projects.shapes.pretraining.loop import run_pretraining
from escnet_d2.projects.shapes.pretraining.region_batches import RegionBatches
from escnet_d2.weights import WeightsError, load_state_dict

REPO = Path(__file__).resolve().parents[3]
CONFIG = "sed_tiny_shapes"
SENTENCES = ["a striped red circle", "grass", "A photo of a blue bar in the scene"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare_split(tmp_path_factory.mktemp("shapes"), "pretrain", num_scenes=6)


@pytest.fixture
def model():
    return build_region_clip(load_config(CONFIG, ["MODEL.CLIP.WEIGHTS", "random"]))


def copies(model):
    return {name: value.clone() for name, value in model.clip.model.state_dict().items()}


def test_the_text_tower_is_that_of_the_vit(model):
    before = copies(model)
    take_text_tower(model.clip.model, "clip_shapes")
    vit = build_region_clip(load_config("escnet_tiny_shapes")).clip
    torch.testing.assert_close(
        model.clip.text.encode_sentences(SENTENCES), vit.text.encode_sentences(SENTENCES)
    )
    opened = {name for name, p in model.clip.model.named_parameters() if p.requires_grad}
    kept = {name for name in before if name.startswith("visual.") or name == "logit_scale"}
    assert opened == kept
    for name in kept:
        assert torch.equal(model.clip.model.state_dict()[name], before[name]), name


def test_a_text_tower_of_another_size_is_refused():
    model = build_clip_model("tiny_convnext", "random", split_attention=False)
    with pytest.raises(WeightsError, match="does not fit"):
        take_text_tower(model, "clip_shapes")


def test_weights_without_a_text_tower_are_refused(model):
    with pytest.raises(WeightsError, match="missing .*token_embedding"):
        take_text_tower(model.clip.model, "sam_shapes")


def test_scenes_are_enlarged_as_sed_squashes_them(model):
    sed = build_model(load_config(CONFIG, ["MODEL.CLIP.WEIGHTS", "random"]))
    images = torch.randint(0, 256, (2, 3, 192, 192), dtype=torch.uint8)
    normalized = [(image.float() - sed.pixel_mean) / sed.pixel_std for image in images]
    expected = sed.views.squash(normalized)
    assert expected.shape == (2, 3, 384, 384)
    torch.testing.assert_close(model.prepare(images), expected)


def test_regions_are_means_of_cells_of_half_the_stride(model):
    assert model.cell_size == 16
    images = model.prepare(torch.randint(0, 256, (2, 3, 192, 192)))
    pooling = torch.zeros(2, 144)
    pooling[0, 10] = 1
    pooling[1, [3, 4]] = 0.5
    features = model.region_features(images, pooling, torch.tensor([1, 0]))
    dense = pyramid_features(model.clip.model.visual, images).dense.flatten(2)
    dense = F.normalize(dense, dim=1)
    torch.testing.assert_close(features[0], dense[1, :, 10])
    torch.testing.assert_close(features[1], F.normalize(dense[0, :, 3] + dense[0, :, 4], dim=0))


def test_the_vit_reads_scenes_as_they_are():
    model = build_region_clip(load_config("escnet_tiny_shapes"))
    assert (model.cell_size, model.scale) == (8, 1)
    assert model.prepare(torch.zeros(1, 3, 192, 192)).shape == (1, 3, 192, 192)


@pytest.mark.parametrize("grid", [[8, 8], [12, 6], [2, 2]])
def test_other_resolutions_are_refused(grid):
    options = ["MODEL.CLIP.WEIGHTS", "random", "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION", grid]
    with pytest.raises(ValueError, match="FEATURE_RESOLUTION"):
        build_region_clip(load_config(CONFIG, options))


def test_every_block_does_something_from_the_start():
    visual = build_clip_model("escnet_shapes_convnext", "random", split_attention=False).visual

    def changes():
        """Returns what each block adds to its input, relative to it."""
        x, shares = visual.trunk.stem(torch.randn(2, 3, 384, 384)), []
        for stage in visual.trunk.stages:
            x = stage.downsample(x)
            for block in stage.blocks:
                out = block(x)
                shares.append(((out - x).std() / x.std()).item())
                x = out
        return shares

    with torch.no_grad():
        assert max(changes()) < 1e-3
        initialize_convnext(visual)
        assert min(changes()) > 0.1


def test_only_the_image_tower_learns(model, folder, tmp_path):
    take_text_tower(model.clip.model, "clip_shapes")
    before = copies(model)
    run_pretraining(
        model,
        RegionBatches(folder, patch_size=model.cell_size, batch_size=2, seed=0),
        tmp_path,
        max_iter=2,
        base_lr=1e-3,
        warmup_iters=1,
        checkpoint_period=9,
        resume=False,
    )
    changed = {
        name for name, value in copies(model).items() if not torch.equal(value, before[name])
    }
    assert changed == {n for n in before if n.startswith("visual.") or n == "logit_scale"}


@pytest.fixture
def pretrain(tmp_path, monkeypatch, load_program):
    """Runs the program on six scenes; returns what it exports."""
    tool = load_program("projects/shapes/pretrain_clip.py")
    monkeypatch.setattr(
        tool, "prepare_split", lambda _, name, **__: prepare_split(tmp_path, name, num_scenes=6)
    )

    def run(*options):
        arguments = ["--output", str(tmp_path / "out"), "--max-iter", "2", "--batch-size", "2"]
        arguments += ["--text-tower", "clip_shapes", "--min-shape-accuracy", "0", *options]
        monkeypatch.setattr(sys, "argv", ["pretrain_clip.py", *arguments])
        assert tool.main() == 0
        return tmp_path / "out/clip.safetensors"

    return run


@pytest.mark.slow
def test_the_program_exports_what_sed_reads(pretrain):
    path = pretrain("--config-file", CONFIG)
    assert path.stat().st_size < 3e6

    model = build_model(load_config(CONFIG, ["MODEL.CLIP.WEIGHTS", str(path)]))
    clip = model.sem_seg_head.predictor.clip_model.state_dict()
    for name, value in load_state_dict(path).items():
        assert torch.equal(clip[name], value.float()), name
