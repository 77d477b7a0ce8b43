import copy

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from escnet_d2.engine.train_loop import AccumulatingTrainer

CPU = torch.device("cpu")


class Regression(nn.Module):
    """Mean squared error over a batch of (input, target) pairs, with two named losses."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.dtypes = set()

    def forward(self, batch):
        inputs, targets = (torch.stack(items) for items in zip(*batch))
        prediction = self.layer(inputs)
        self.dtypes.add(prediction.dtype)
        # Small enough for float16 at the first loss scale, 2^16.
        error = 0.1 * (prediction.float() - targets).square().mean()
        return {"loss_a": error, "loss_b": 0.5 * error}


def samples(count):
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(4, generator=generator), torch.randn(1, generator=generator))
        for _ in range(count)
    ]


def train(model, batches, **options):
    """Trains a copy for as many steps as the batches give; returns copy, trainer and storage."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    trainer = AccumulatingTrainer(model, optimizer, device=CPU, **options)
    trainer.start_loader(batches)
    with EventStorage() as storage:
        for _ in range(len(batches) // trainer.accumulation_steps):
            trainer.run_step()
    return model, trainer, storage


def test_accumulation_equals_one_big_batch():
    data, model = samples(24), Regression()
    big, _, big_storage = train(model, [data[:12], data[12:]])
    small_batches = [data[i : i + 4] for i in range(0, 24, 4)]
    small, _, small_storage = train(model, small_batches, accumulation_steps=3)
    for left, right in zip(big.parameters(), small.parameters()):
        assert torch.allclose(left, right, atol=1e-6)
    for name in ("loss_a", "loss_b", "total_loss"):
        values = [s.history(name).latest() for s in (big_storage, small_storage)]
        assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert not torch.allclose(big.layer.weight, model.layer.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_follows_float32(dtype):
    data, model = samples(24), Regression()
    batches = [data[:8], data[8:16], data[16:]]
    full, _, _ = train(model, batches)
    mixed, trainer, _ = train(model, batches, dtype=dtype)
    assert mixed.dtypes == {dtype}
    assert all(p.dtype == torch.float32 for p in mixed.parameters())
    assert trainer.grad_scaler.is_enabled() == (dtype == torch.float16)
    assert torch.allclose(full.layer.weight, mixed.layer.weight, atol=0.02)
    assert not torch.equal(full.layer.weight, mixed.layer.weight)


def test_float16_skips_steps_that_overflow_and_lowers_the_scale():
    model = Regression()
    overflowing = [(1e4 * x, y) for x, y in samples(4)]
    trained, trainer, _ = train(model, [overflowing], dtype=torch.float16)
    assert torch.equal(trained.layer.weight, model.layer.weight)
    assert trainer.grad_scaler.get_scale() == 2.0**15


def test_loss_scale_is_restored_and_state_moves_between_precisions():
    _, half, _ = train(Regression(), [samples(4)] * 2, dtype=torch.float16)
    _, other, _ = train(Regression(), [samples(4)], dtype=torch.float16)
    _, plain, _ = train(Regression(), [samples(4)])
    half.grad_scaler.update(new_scale=64.0)
    other.load_state_dict(half.state_dict())
    plain.load_state_dict(half.state_dict())
    other.load_state_dict(plain.state_dict())
    assert other.grad_scaler.get_scale() == 64.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_stops_before_the_step(value):
    model = Regression()
    model.layer.bias.data.fill_(value)
    weight = model.layer.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = AccumulatingTrainer(model, optimizer, device=CPU)
    trainer.start_loader([samples(2)])
    with EventStorage(), pytest.raises(FloatingPointError, match="iteration 0.*loss_a"):
        trainer.run_step()
    assert torch.equal(model.layer.weight, weight)


def test_model_in_eval_mode_is_refused():
    model = Regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = AccumulatingTrainer(model, optimizer, device=CPU)
    model.eval()
    with pytest.raises(RuntimeError, match="eval mode"):
        trainer.run_step()
