"""Fixtures that several rooms share: seeds, a tiny configuration and model, photos of noise."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # Two processes and their threads on two cores are slower than one thread each.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _loggers():
    """Undoes what a run's logger set-up leaves behind: caplog sees only what propagates."""
    yield
    for name in ("escnet_d2", "detectron2", "fvcore"):
        logger = logging.getLogger(name)
        logger.propagate = True
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
    if "detectron2.utils.logger" in sys.modules:
        # Detectron2 sets each logger up once per process.
        sys.modules["detectron2.utils.logger"].setup_logger.cache_clear()


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
    """Returns a model's head with weights in ``from_sam``, which are zero before training."""

    def randomise(head):
        for block in head.blocks:
            if block.sam is not None:
                torch.nn.init.normal_(block.from_sam.weight, std=0.1)
        return head

    return randomise


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
