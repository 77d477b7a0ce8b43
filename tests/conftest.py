"""Fixtures that several rooms share: a tiny configuration and model, photos of noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture
def tiny_cfg():
    """escnet_tiny on the CPU: random weights, two ESC-Blocks."""
    from escnet_d2 import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(str(REPO / "configs/escnet/escnet_tiny.yaml"))
    cfg.INPUT.COLOR_AUG_SSD = False
    return cfg


@pytest.fixture
def past_the_start():
    """Returns a model's head with weights where SAM's outputs enter, zero before training."""

    def randomize(head):
        for block in head.blocks:
            if block.sam is not None:
                paths = (block.from_sam, block.pooling, block.own_features, block.own_mask)
                for path in filter(None, paths):
                    torch.nn.init.normal_(next(path.parameters()), std=0.1)
        return head

    return randomize


@pytest.fixture
def tiny_model(tiny_cfg, past_the_start):
    """The model of ``tiny_cfg``, in eval mode, with SAM blocks that have a say."""
    from detectron2.modeling import build_model

    model = build_model(tiny_cfg).eval()
    past_the_start(model.sem_seg_head)
    return model


@pytest.fixture
def vocabulary():
    from escnet_d2.structures import Vocabulary

    return Vocabulary.from_classes(["cat", "dog", "grass", "sky", "a red car"])


@pytest.fixture
def batch(vocabulary):
    """Two images of different size with labels, as the data mapper gives them."""
    generator = torch.Generator().manual_seed(7)

    def image(height, width):
        return {
            "image": torch.randint(0, 256, (3, height, width), generator=generator).byte(),
            "sem_seg": torch.randint(
                0, vocabulary.num_classes, (height, width), generator=generator
            ),
            "vocabulary": vocabulary,
            "height": height + 10,
            "width": width // 2,
        }

    return [image(96, 120), image(70, 90)]


# Sizes at which a run takes a second.
TINY = """\
_BASE_: {repo}/configs/escnet/escnet_tiny.yaml
DATASETS: {{FOLDERS: ["{root}"], TRAIN: {train}, TEST: {val}}}
MODEL: {{CLIP: {{RESOLUTION: 32}}}}
INPUT: {{MIN_SIZE_TRAIN: [32], CROP: {{SIZE: [32, 32]}}, MIN_SIZE_TEST: 32}}
SOLVER: {{IMS_PER_BATCH: 2, MAX_ITER: 1}}
"""


@pytest.fixture(scope="session")
def prepared_folder():
    """Returns a function that fills a folder for DATASETS.FOLDERS with noise on blocks of color.

    Its ``tiny.yaml`` is a configuration of escnet_tiny at small sizes for its splits train and val.
    """

    def prepare(root, name, **splits):
        generator = np.random.default_rng(0)
        described = {}
        for split, count in splits.items():
            roots = {kind: root / kind / split for kind in ("images", "labels")}
            for path in roots.values():
                path.mkdir(parents=True)
            for index in range(count):
                labels = generator.integers(0, 3, (2, 2)).repeat(18, 0).repeat(20, 1)
                image = labels[..., None] * 80 + generator.integers(0, 60, (36, 40, 3))
                for kind, pixels in (("images", image), ("labels", labels)):
                    Image.fromarray(pixels.astype(np.uint8)).save(roots[kind] / f"{index}.png")
            described[split] = {
                "image_root": f"images/{split}",
                "sem_seg_root": f"labels/{split}",
                "num_images": count,
            }
        classes = ["sky", "grass, lawn", "dog"]
        content = {"name": name, "ignore_label": 255, "classes": classes, "splits": described}
        (root / "dataset.json").write_text(json.dumps(content))
        names = {split: [f"{name}_{split}"] * (split in splits) for split in ("train", "val")}
        (root / "tiny.yaml").write_text(TINY.format(repo=REPO, root=root, **names))
        return root

    return prepare
