"""The ESC-Net that comes with the package: evaluated, in the demo, from Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from escnet_d2.engine import OpenVocabPredictor
from escnet_d2.modeling.sam import build_sam_image_encoder
from escnet_d2.projects.shapes import CLASSES, SPLITS, group_miou
from escnet_d2.weights import shipped_manifest

REPO = Path(__file__).resolve().parents[3]
NAME = "escnet_tiny_shapes"


def run(*command, cwd=REPO, **variables):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_it_scores_as_the_manifest_says(tmp_path):
    run(
        "train_net.py",
        *("--config-file", NAME, "--eval-only", "--num-gpus", "2"),
        *("MODEL.WEIGHTS", NAME, "OUTPUT_DIR", tmp_path, "TEST.IMS_PER_BATCH", "2"),
        DETECTRON2_DATASETS=str(tmp_path / "datasets"),
    )
    path = tmp_path / "inference/shapes_val_sem_seg/results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    assert results["num_images"] == 300
    scores = group_miou({record["name"]: record["IoU"] for record in results["per_class"]})
    recorded = shipped_manifest()[NAME]["metrics"]
    assert set(recorded) == set(scores)
    for group, value in scores.items():
        assert value == pytest.approx(recorded[group], abs=1.0), group


def test_it_finds_a_thing_that_no_mask_showed():
    predictor = OpenVocabPredictor(NAME, weights=NAME)
    names, found = list(CLASSES), {True: [], False: []}
    for index in range(SPLITS["demo"].num_scenes):
        scene = SPLITS["demo"].draw(index)
        labels = predictor(scene.image, names).labels
        for number, thing in enumerate(scene.things, start=1):
            mask = scene.instances == number
            if mask.sum() > 200:
                found[thing.is_unseen].append((labels[mask] == names.index(thing.name)).mean())
    # Chance is one of 66.
    assert np.mean(found[True]) > 0.25
    assert np.mean(found[False]) > 0.25


def test_sam_finds_masks_on_what_the_adapter_makes_of_clips_features(load_program):
    program = load_program("tools/probe_prompts.py")
    model = OpenVocabPredictor(NAME, weights=NAME).model
    probe = program.MaskProbe(model, build_sam_image_encoder("sam_shapes"))
    ious = defaultdict(list)
    for index in range(20):
        scene = SPLITS["val"].draw(index)
        image = torch.from_numpy(scene.image).permute(2, 0, 1)
        # A region is a thing, or a ground.
        regions = np.where(scene.instances > 0, len(CLASSES) + scene.instances, scene.labels)
        for name, values in probe.measure({"image": image}, regions.astype(int)).items():
            ious[name] += values
    for kind in ("points", "mask"):
        own = np.mean(ious[f"SAM's own, {kind}"])
        assert own > 0.5
        assert np.mean(ious[f"adapted, {kind}"]) > 0.8 * own


@pytest.mark.slow
def test_the_demo_of_the_makefile(tmp_path):
    output = run("projects/shapes/run_demo.py", DETECTRON2_DATASETS=str(tmp_path))
    assert "zero-shot CLIP" in output
    results = REPO / "output/demo/results"
    assert len(list((results / "overlays").glob("*.png"))) >= 12
    assert list((REPO / "output/demo/prompts").glob("*_prompts.png"))
