"""The weights in the package: whole, small, found without network, and as good as recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from escnet_d2.engine import load_config
from escnet_d2.projects.shapes import prepare_split
from escnet_d2.projects.shapes.pretraining.clip_accuracy import clip_accuracy
from escnet_d2.projects.shapes.pretraining.clip_models import build_region_clip
from escnet_d2.projects.shapes.pretraining.prompt_batches import PromptBatches
from escnet_d2.projects.shapes.pretraining.sam_accuracy import sam_accuracy
from escnet_d2.projects.shapes.pretraining.tiny_sam import PromptedSam, build_tiny_sam
from escnet_d2.weights import (
    SHIPPED_DIR,
    WeightsError,
    clip_weights_file,
    keep_token_rows,
    load_state_dict,
    model_weights_path,
    sam_weights_file,
    shipped_manifest,
)
from escnet_d2.weights.baseline_keys import join_attention
from escnet_d2.weights.checksum import sha256_of
from escnet_d2.weights.token_rows import restore_token_rows

REPO = Path(__file__).resolve().parents[2]
# Each CLIP, and a configuration that reads it.
CLIPS = {"clip_shapes": "escnet_tiny_shapes", "clip_convnext_shapes": "sed_tiny_shapes"}
NAMES = (*CLIPS, "sam_shapes", "sam_adapter_shapes", "escnet_tiny_shapes")


def test_manifest_says_how_each_file_was_made_and_all_are_small():
    manifest = shipped_manifest()
    files = list(SHIPPED_DIR.glob("*.safetensors"))
    assert set(manifest) == set(NAMES) == {path.stem for path in files}
    assert sum(path.stat().st_size for path in files) < 12e6
    for entry in manifest.values():
        path = SHIPPED_DIR / entry["file"]
        assert sha256_of(path) == entry["sha256"]
        assert path.stat().st_size == entry["bytes"]
        assert (REPO / "configs/shapes" / f"{entry['config']}.yaml").is_file()
        assert entry["command"].startswith("python ")
        assert (REPO / entry["command"].split()[1]).is_file()
        assert entry["metrics"]
        assert entry["date"].startswith("20")
        assert "CPU" in entry["device"]


def test_names_are_found_without_network():
    for name in CLIPS:
        assert clip_weights_file("escnet_shapes", name).suffix == ".safetensors"
    assert sam_weights_file("sam_shapes").is_file()
    assert Path(model_weights_path("escnet_tiny_shapes")).is_file()
    assert model_weights_path("some/file.pth") == "some/file.pth"


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text(json.dumps({"a": {"file": "a.safetensors"}}))
    monkeypatch.setattr("escnet_d2.weights.shipped.SHIPPED_DIR", tmp_path)
    with pytest.raises(WeightsError, match=f"{tmp_path}/a.safetensors does not exist"):
        sam_weights_file("a")


def test_token_rows_come_back():
    weight = torch.arange(12.0).view(6, 2)
    kept = keep_token_rows({"clip.token_embedding.weight": weight, "other": torch.ones(1)}, [4, 1])
    assert kept["clip.token_embedding.weight"].tolist() == [[2, 3], [8, 9]]
    restored = restore_token_rows(kept)
    assert set(restored) == {"clip.token_embedding.weight", "other"}
    rows = restored["clip.token_embedding.weight"]
    assert rows[[1, 4]].tolist() == [[2, 3], [8, 9]]
    assert rows[[0, 2, 3, 5]].tolist() == [[5, 6]] * 4
    assert restore_token_rows({"a": weight}) == {"a": weight}


def test_the_clips_share_one_text_tower():
    vit, convnext = (load_state_dict(clip_weights_file("", name)) for name in CLIPS)
    joined = join_attention(vit)
    names = {name for name in joined if not name.startswith("visual.")} - {"logit_scale"}
    assert "token_embedding.weight" in names
    for name in names:
        assert torch.equal(joined[name], convnext[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), CLIPS.items())
def test_clip_passes_its_gate(name, config, tmp_path):
    model = build_region_clip(load_config(config)).eval()
    folder = prepare_split(tmp_path, "pretrain_val", num_scenes=120)
    accuracy = clip_accuracy(model, folder)
    recorded = shipped_manifest()[name]["metrics"]
    assert recorded["shape"] > 0.6
    assert accuracy["shape"] > 0.5
    for score in ("texture", "color", "shape", "name"):
        assert accuracy[score] == pytest.approx(recorded[score], abs=0.08)  # 120 of 200 scenes
    # As real CLIP, it names boxes and hardly a patch.
    assert accuracy["patch_name"] < 0.5 * accuracy["name"]


@pytest.mark.slow
def test_sam_passes_its_gate(tmp_path):
    model = PromptedSam(build_tiny_sam(load_config("escnet_tiny_shapes"))).eval()
    model.sam.load_state_dict(load_state_dict(sam_weights_file("sam_shapes")))
    folder = prepare_split(tmp_path, "sam_val", num_scenes=60)
    batches = PromptBatches(folder, batch_size=8, num_prompts=4, seed=0)
    accuracy = sam_accuracy(model, batches)
    recorded = shipped_manifest()["sam_shapes"]["metrics"]
    assert recorded["five_points"] > 0.7
    assert accuracy["five_points"] > 0.65
    for name, value in accuracy.items():
        assert value == pytest.approx(recorded[name], abs=0.06)  # 60 of 100 scenes
