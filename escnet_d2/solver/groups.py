"""Parameter groups: the learning rate and weight decay that each parameter takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode
from torch import nn

# Positional and embedding parameters other than an nn.Embedding's, by the last part of their name.
_EMBEDDING_NAMES = frozenset(
    {
        "class_embedding",
        "logit_scale",
        "pos_embed",
        "position_embedding",
        "positional_embedding",
        "relative_position_bias_table",
    }
)


def build_parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Sorts the trainable parameters into groups of equal learning rate and weight decay.

    The learning rate depends on where a parameter comes from (CLIP, SAM, or new), the weight decay
    on what it is. A parameter that several modules share is counted once, under its first name.

    Args:
        cfg: ``SOLVER.BASE_LR``, ``CLIP_MULTIPLIER``, ``SAM_MULTIPLIER``, ``BIAS_LR_FACTOR`` and
            ``WEIGHT_DECAY{,_NORM,_EMBED,_BIAS}``; the last one, when set, wins for every bias.
        model: not wrapped for distributed training: CLIP's parameters are those named ``clip.*``
            or, in CATSeg and SED, with ``.clip_model.`` in their name, SAM's those with ``.sam.``.

    Returns:
        Groups for a torch optimizer, in order of first appearance, with a ``name`` such as
        ``"sam norm"``.

    Raises:
        ValueError: nothing is trainable.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, module, parameter in _trainable_parameters(model):
        source, kind = _source(name), _kind(name, module)
        label = f"{source} {kind}"
        if label not in groups:
            groups[label] = {
                "name": label,
                "params": [],
                "lr": _learning_rate(cfg, source, kind),
                "weight_decay": _weight_decay(cfg, kind),
            }
        groups[label]["params"].append(parameter)
    if not groups:
        raise ValueError(
            "The model has no trainable parameter: check MODEL.CLIP.FINETUNE and what else freezes."
        )
    return list(groups.values())


def _trainable_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """Yields full name, owning module and value of each trainable parameter, shared ones once."""
    seen: set[nn.Parameter] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield (f"{prefix}.{name}" if prefix else name), module, parameter


def _source(name: str) -> str:
    if name.startswith("clip.") or ".clip_model." in name:
        return "clip"
    return "sam" if ".sam." in name else "new"


def _kind(name: str, module: nn.Module) -> str:
    """Returns ``embedding``, ``norm``, ``norm bias``, ``bias`` or ``weight``."""
    last = name.rpartition(".")[2]
    if isinstance(module, nn.Embedding) or last in _EMBEDDING_NAMES:
        return "embedding"
    # By class name, since SAM's LayerNorm2d and other norms share no base class with torch's.
    is_norm = "Norm" in type(module).__name__
    if last.endswith("bias"):
        return "norm bias" if is_norm else "bias"
    return "norm" if is_norm else "weight"


def _learning_rate(cfg: CfgNode, source: str, kind: str) -> float:
    factors = {"clip": cfg.SOLVER.CLIP_MULTIPLIER, "sam": cfg.SOLVER.SAM_MULTIPLIER, "new": 1.0}
    factor = factors[source] * (cfg.SOLVER.BIAS_LR_FACTOR if kind.endswith("bias") else 1.0)
    return cfg.SOLVER.BASE_LR * factor


def _weight_decay(cfg: CfgNode, kind: str) -> float:
    if kind.endswith("bias") and cfg.SOLVER.WEIGHT_DECAY_BIAS is not None:
        return cfg.SOLVER.WEIGHT_DECAY_BIAS
    if kind == "embedding":
        return cfg.SOLVER.WEIGHT_DECAY_EMBED
    return cfg.SOLVER.WEIGHT_DECAY_NORM if kind.startswith("norm") else cfg.SOLVER.WEIGHT_DECAY
