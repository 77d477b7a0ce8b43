import copy

import pytest
import torch
from detectron2.solver import build_lr_scheduler
from torch import nn

from escnet_d2.config import get_cfg
from escnet_d2.solver import build_optimizer


class LayerNorm2d(nn.Module):
    """Has no base class in common with torch's norms, as SAM's."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))


class Model(nn.Module):
    """The names of the real model: CLIP, SAM inside a block, new weights."""

    def __init__(self):
        super().__init__()
        clip = nn.Module()
        clip.positional_embedding = nn.Parameter(torch.randn(3, 4))
        clip.token_embedding = nn.Embedding(5, 4)
        clip.attention = nn.MultiheadAttention(4, 1)
        clip.ln = nn.LayerNorm(4)
        clip.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.clip = nn.Module()
        self.clip.model = clip
        sam = nn.Module()
        sam.norm = LayerNorm2d(4)
        sam.linear = nn.Linear(4, 4)
        sam.tokens = nn.Embedding(2, 4)
        block = nn.Module()
        block.sam = sam
        block.linear = nn.Linear(4, 4)
        self.sem_seg_head = nn.Module()
        self.sem_seg_head.blocks = nn.ModuleList([block])
        self.sem_seg_head.twin = block.linear
        self.sem_seg_head.norm = nn.GroupNorm(2, 4)
        self.scale = nn.Parameter(torch.ones(()))


def solver_cfg(*opts):
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 1.0
    cfg.SOLVER.WEIGHT_DECAY = 0.1
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.2
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.3
    cfg.SOLVER.CLIP_MULTIPLIER = 0.01
    cfg.SOLVER.SAM_MULTIPLIER = 0.5
    cfg.merge_from_list(list(opts))
    return cfg


def hyperparameters(optimizer, model):
    """(lr, weight decay) by parameter name; fails if a parameter is in two groups."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[parameter] not in found
            found[names[parameter]] = (group["lr"], group["weight_decay"])
    return found


def test_groups_by_name():
    model = Model()
    found = hyperparameters(build_optimizer(solver_cfg(), model), model)
    block = "sem_seg_head.blocks.0"
    assert found == {
        "scale": (1.0, 0.1),
        "clip.model.positional_embedding": (0.01, 0.3),
        "clip.model.token_embedding.weight": (0.01, 0.3),
        "clip.model.attention.in_proj_weight": (0.01, 0.1),
        "clip.model.attention.in_proj_bias": (0.01, 0.1),
        "clip.model.attention.out_proj.weight": (0.01, 0.1),
        "clip.model.attention.out_proj.bias": (0.01, 0.1),
        "clip.model.ln.weight": (0.01, 0.2),
        "clip.model.ln.bias": (0.01, 0.2),
        f"{block}.sam.norm.weight": (0.5, 0.2),
        f"{block}.sam.norm.bias": (0.5, 0.2),
        f"{block}.sam.linear.weight": (0.5, 0.1),
        f"{block}.sam.linear.bias": (0.5, 0.1),
        f"{block}.sam.tokens.weight": (0.5, 0.3),
        f"{block}.linear.weight": (1.0, 0.1),
        f"{block}.linear.bias": (1.0, 0.1),
        "sem_seg_head.norm.weight": (1.0, 0.2),
        "sem_seg_head.norm.bias": (1.0, 0.2),
    }


def test_bias_keys_win_for_every_bias_and_nothing_else():
    model = Model()
    plain = hyperparameters(build_optimizer(solver_cfg(), model), model)
    cfg = solver_cfg("SOLVER.WEIGHT_DECAY_BIAS", 0.7, "SOLVER.BIAS_LR_FACTOR", 2.0)
    for name, (rate, decay) in hyperparameters(build_optimizer(cfg, model), model).items():
        expected = (2 * plain[name][0], 0.7) if name.endswith("bias") else plain[name]
        assert (rate, decay) == pytest.approx(expected), name


def test_optimizer_by_name():
    assert type(build_optimizer(solver_cfg(), Model())) is torch.optim.AdamW
    cfg = solver_cfg("SOLVER.OPTIMIZER", "SGD", "SOLVER.MOMENTUM", 0.7, "SOLVER.NESTEROV", True)
    optimizer = build_optimizer(cfg, Model())
    assert type(optimizer) is torch.optim.SGD
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.7, True)


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(solver_cfg(), Model().requires_grad_(False))


@pytest.mark.parametrize(
    ("clip_type", "value", "expected"),
    [
        # Of both parameters together, which keeps the direction.
        ("full_model", 1.0, [0.6, 0.8]),
        ("full_model", 10.0, [3.0, 4.0]),
        # Detectron2's treat each parameter by itself.
        ("norm", 1.0, [1.0, 1.0]),
        ("value", 3.5, [3.0, 3.5]),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_clipping_of_unscaled_gradients(clip_type, value, expected, scale):
    """Two SGD weights whose gradients are 3 and 4."""
    cfg = solver_cfg("SOLVER.OPTIMIZER", "SGD", "SOLVER.MOMENTUM", 0.0, "SOLVER.WEIGHT_DECAY", 0.0)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = value
    model = nn.ParameterList([nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))])
    optimizer = build_optimizer(cfg, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    scaler.scale((3 * model[0] + 4 * model[1]).sum()).backward()
    scaler.step(optimizer)
    assert [-weight.item() for weight in model] == pytest.approx(expected, abs=1e-5)


def test_state_of_a_clipping_optimizer_loads_into_another():
    cfg = solver_cfg(
        "SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"
    )
    model = Model()
    optimizer = build_optimizer(cfg, model)
    sum(p.sum() for p in model.parameters() if p.requires_grad).backward()
    optimizer.step()
    other = build_optimizer(cfg, copy.deepcopy(model))
    other.load_state_dict(optimizer.state_dict())
    for left, right in zip(optimizer.state.values(), other.state.values()):
        assert all(torch.equal(left[key], right[key]) for key in left)


def test_warm_up_and_cosine_scale_every_group_alike():
    cfg = solver_cfg(
        "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.MAX_ITER", 10,
        "SOLVER.WARMUP_ITERS", 2, "SOLVER.WARMUP_FACTOR", 0.5,
    )  # fmt: skip
    model = Model()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    initial = [group["initial_lr"] for group in optimizer.param_groups]
    factors = []
    for _ in range(10):
        rates = [group["lr"] for group in optimizer.param_groups]
        factors.append(rates[0] / initial[0])
        assert rates == pytest.approx([rate * factors[-1] for rate in initial])
        optimizer.step()
        scheduler.step()
    cosine = [0.5 * (1 + torch.cos(torch.tensor(torch.pi * i / 10)).item()) for i in range(10)]
    assert factors[0] == pytest.approx(0.5)
    assert factors[0] < factors[1] < cosine[1]
    assert factors[2:] == pytest.approx(cosine[2:], abs=1e-6)
