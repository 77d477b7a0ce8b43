"""Policies that say by name which of CLIP's weights train, as the papers of the methods do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import nn

from escnet_d2.config import check_choice


def _nothing(name: str) -> bool:
    del name
    return False


# No policy opens the temperature: nothing of ours depends on it.
def _everything(name: str) -> bool:
    return name not in ("logit_scale", "logit_bias")


def _in_transformer(name: str) -> bool:
    return "transformer" in name


def _query_or_value(name: str) -> bool:
    return _in_transformer(name) and name.endswith(("q_proj_weight", "v_proj_weight"))


def _visual(part: str = "") -> Callable[[str], bool]:
    return lambda name: name.startswith("visual.") and part in name


# By value of the key: whether a parameter of CLIP trains, by its name.
Policies = Mapping[str, Callable[[str], bool]]
# MODEL.CLIP.FINETUNE; "attention" opens both towers, as CAT-Seg does.
ESCNET_POLICIES: Policies = {
    "attention": _query_or_value,
    "full": _everything,
    "none": _nothing,
}
# MODEL.SEM_SEG_HEAD.CLIP_FINETUNE of the two baselines.
CAT_SEG_POLICIES: Policies = {
    "attention": _query_or_value,
    "full": _in_transformer,
    "none": _nothing,
    "all": _everything,
}
CONVNEXT_POLICIES: Policies = {
    "full": _visual(),
    "conv": _visual("conv"),
    "mlp": _visual("mlp"),
    "full_res5": _visual("stages.3"),
    "none": _nothing,
    "all": _everything,
}
SED_POLICIES: Policies = {
    **CONVNEXT_POLICIES,
    "fast_infer": _nothing,
    # SED's own program does not know this policy and freezes CLIP.
    "attention": _nothing,
}


def set_trainable(
    model: nn.Module,
    policy: str,
    policies: Policies,
    *,
    key: str = "MODEL.SEM_SEG_HEAD.CLIP_FINETUNE",
    without_gradient: Collection[str] = (),
) -> list[str]:
    """Opens the weights that a policy names and freezes the others.

    Args:
        model: an open_clip model.
        policy: one of ``policies``.
        policies: of the method.
        key: the configuration key, for the message.
        without_gradient: names that stay frozen under every policy, as nothing depends on them.

    Returns:
        Names of the parameters that train, in the model's order.

    Raises:
        ValueError: another policy.
    """
    check_choice(key, policy, policies)
    opens = policies[policy]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(opens(name) and name not in without_gradient)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
