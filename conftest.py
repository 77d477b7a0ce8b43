"""What all tests share: the seed, one thread, and loggers as they were."""

from __future__ import annotations

import logging
import sys

import pytest
import torch


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
