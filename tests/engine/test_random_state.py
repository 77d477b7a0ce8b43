import io
import random

import numpy as np
import torch

from escnet_d2.engine.random_state import (
    get_random_state,
    preserved_random_state,
    set_random_state,
)


def draws():
    # Two normals of each: Python and numpy keep the second of a pair for later.
    return (
        [random.random(), random.gauss(0, 1), random.gauss(0, 1)],
        np.random.normal(size=3).tolist(),  # noqa: NPY002
        torch.randn(3).tolist(),
    )


def test_state_survives_a_file_that_is_read_with_weights_only():
    draws()
    file = io.BytesIO()
    torch.save(get_random_state(), file)
    expected = draws()
    assert draws() != expected
    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))
    assert draws() == expected


def test_state_is_put_back_after_an_error():
    before = get_random_state()
    expected = draws()
    set_random_state(before)
    try:
        with preserved_random_state():
            draws()
            raise KeyError
    except KeyError:
        assert draws() == expected
