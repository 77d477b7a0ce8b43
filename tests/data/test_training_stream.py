import itertools
import random

import numpy as np
import pytest
import torch

from escnet_d2.data import ResumableTrainingSampler, TrainingStream


def draws(sample):
    """A mapper that shows what the three generators give."""
    return {
        "index": sample["index"],
        "numpy": np.random.rand(),  # noqa: NPY002
        "python": random.random(),
        "torch": torch.rand(()).item(),
    }


def make_stream(size=5, seed=3):
    return TrainingStream([{"index": index} for index in range(size)], mapper=draws, seed=seed)


def take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def test_every_epoch_holds_every_sample_once_in_a_new_order():
    stream = make_stream(size=20)
    epochs = [[stream.dataset_index(20 * e + i) for i in range(20)] for e in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != list(range(20))


def test_a_sample_depends_on_seed_and_position_only():
    positions = [0, 7, 3, 12, 7, 0]
    samples = [make_stream()[position] for position in positions]
    stream = make_stream()
    np.random.seed(99)  # noqa: NPY002
    assert [stream[position] for position in positions] == samples
    assert samples[0] == samples[5] and samples[1] == samples[4]
    assert make_stream(seed=4)[0] != samples[0]


def test_every_position_has_random_numbers_of_its_own():
    stream = make_stream()
    for key in ("numpy", "python", "torch"):
        assert len({stream[position][key] for position in range(20)}) == 20


def test_random_numbers_are_those_that_earlier_runs_drew():
    # Else a resumed run would go on with other augmentations than it began with.
    sample = make_stream()[7]
    assert [round(sample[key], 6) for key in ("numpy", "python", "torch")] == [
        0.498487,
        0.566156,
        0.826027,
    ]


def test_generators_are_put_back_even_after_an_error():
    def fail(sample):
        draws(sample)
        raise RuntimeError

    def states():
        numpy_state = np.random.get_state()[1].tobytes()  # noqa: NPY002
        return numpy_state, random.getstate(), torch.get_rng_state().numpy().tobytes()

    before = states()
    make_stream()[0]
    assert states() == before
    with pytest.raises(RuntimeError):
        TrainingStream([{"index": 0}], mapper=fail, seed=0)[0]
    assert states() == before


def test_sampler_started_later_continues():
    assert take(ResumableTrainingSampler(), 20) == list(range(20))
    assert take(ResumableTrainingSampler(start=8), 12) == list(range(8, 20))


def test_sampler_can_be_iterated_several_times_at_once():
    # Detectron2 shards one sampler over loader workers by several iterators.
    sampler = ResumableTrainingSampler()
    first, second = iter(sampler), iter(sampler)
    assert [next(first), next(second), next(first)] == [0, 0, 1]
