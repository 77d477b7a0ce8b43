"""Which of CLIP's weights train."""

from __future__ import annotations

from torch import nn

POLICIES = ("attention", "full", "none")


def set_trainable(model: nn.Module, policy: str) -> list[str]:
    """Opens the weights that a policy names and freezes the others.

    Weights that cannot get a gradient stay frozen under every policy: the temperature, and the
    query and key projections of the last image block, whose dense features take the value path.

    Args:
        model: an open_clip model with :class:`SplitAttention` in its towers.
        policy: "attention" (q and v projection weights of every attention of both towers, as
            CAT-Seg), "full" or "none".

    Returns:
        Names of the parameters that train, in the model's order.

    Raises:
        ValueError: another policy.
    """
    if policy not in POLICIES:
        raise ValueError(
            f"MODEL.CLIP.FINETUNE must be one of {', '.join(POLICIES)}, got {policy!r}."
        )
    last = len(model.visual.transformer.resblocks) - 1
    without_gradient = {
        "logit_scale",
        "logit_bias",
        f"visual.transformer.resblocks.{last}.attn.q_proj_weight",
        f"visual.transformer.resblocks.{last}.attn.k_proj_weight",
    }
    opened = []
    for name, parameter in model.named_parameters():
        wanted = policy == "full" or (
            policy == "attention" and name.endswith(("q_proj_weight", "v_proj_weight"))
        )
        parameter.requires_grad_(wanted and name not in without_gradient)
        if parameter.requires_grad:
            opened.append(name)
    return opened
