"""An endless, shuffled, resumable stream of training samples.

Sample p of the stream, its image and its augmentation, is a function of the seed and p alone. So
the stream does not depend on the number of worker processes or on where training was interrupted,
and several processes read the images that one would have read.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from torch.utils.data import Dataset, Sampler

# Keys that keep the random numbers of the shuffling apart from those of the augmentation.
_SHUFFLE_KEY, _AUGMENT_KEY = 0, 1


class TrainingStream(Dataset):
    """Maps a position in the stream, from 0 on without end, to a sample."""

    def __init__(
        self,
        dataset_dicts: Sequence[dict[str, Any]],
        *,
        mapper: Callable[[dict[str, Any]], dict[str, Any]],
        seed: int,
    ) -> None:
        """Takes the samples of one epoch.

        Args:
            dataset_dicts: at least one.
            mapper: makes a sample of a dict; may draw from the global generators of numpy,
                ``random`` and torch (CPU).
            seed: non-negative.
        """
        self._dataset_dicts = dataset_dicts
        self._mapper = mapper
        self._seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Returns the number of samples in one epoch; positions go on beyond it."""
        return len(self._dataset_dicts)

    def dataset_index(self, position: int) -> int:
        """Finds the dict at ``position``; each epoch holds every index once, newly shuffled."""
        epoch, offset = divmod(position, len(self))
        if epoch != self._epoch:
            generator = np.random.default_rng(
                np.random.SeedSequence(self._seed, spawn_key=(_SHUFFLE_KEY, epoch))
            )
            self._order = generator.permutation(len(self))
            self._epoch = epoch
        return int(self._order[offset])

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Returns the mapped sample at ``position``, the same at every call."""
        sample = self._dataset_dicts[self.dataset_index(position)]
        with _seeded(self._seed, position):
            return self._mapper(sample)


class ResumableTrainingSampler(Sampler):
    """Yields the positions of the stream that this process reads, from any start.

    Process r of W reads ``start + r, start + r + W, ...``, so that the processes together read the
    stream in order.
    """

    def __init__(self, *, start: int = 0) -> None:
        """Goes on after ``start`` samples, which all processes together have read before."""
        self._first, self._step = start + comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        """Counts on without end."""
        return itertools.count(self._first, self._step)


@contextmanager
def _seeded(seed: int, position: int) -> Iterator[None]:
    """Seeds the global generators for one sample, and puts them back afterwards.

    Without the second part, loading in the main process would change the model's random numbers.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(_AUGMENT_KEY, position))
    numpy_seed, python_seed, torch_seed = (int(word) for word in sequence.generate_state(3))
    # Detectron2's augmentations draw from numpy's global generator.
    states = np.random.get_state(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    np.random.seed(numpy_seed)  # noqa: NPY002
    random.seed(python_seed)
    # Not torch.manual_seed: that would seed the GPUs as well.
    torch.default_generator.manual_seed(torch_seed)
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
        torch.set_rng_state(states[2])
