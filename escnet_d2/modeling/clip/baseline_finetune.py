"""Which of CLIP's weights train, by the policies of the CAT-Seg and SED releases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn


def _never(name: str) -> bool:
    del name
    return False


def _in_transformer(name: str) -> bool:
    return "transformer" in name


def _query_or_value(name: str) -> bool:
    return _in_transformer(name) and name.endswith(("q_proj_weight", "v_proj_weight"))


def _visual(*parts: str) -> Callable[[str], bool]:
    def opens(name: str) -> bool:
        return name.startswith("visual.") and (not parts or any(part in name for part in parts))

    return opens


# No policy opens the temperature: nothing of CAT-Seg or SED depends on it.
def _everything(name: str) -> bool:
    return name not in ("logit_scale", "logit_bias")


# By value of MODEL.SEM_SEG_HEAD.CLIP_FINETUNE: whether a parameter of CLIP trains, by its name.
Policies = Mapping[str, Callable[[str], bool]]
CAT_SEG_POLICIES: Policies = {
    "attention": _query_or_value,
    "full": _in_transformer,
    "none": _never,
    "all": _everything,
}
SED_POLICIES: Policies = {
    "full": _visual(),
    "conv": _visual("conv"),
    "mlp": _visual("mlp"),
    "full_res5": _visual("stages.3"),
    "fast_infer": _never,
    # The release knows no such policy and freezes CLIP.
    "attention": _never,
    "none": _never,
    "all": _everything,
}


def open_by_policy(model: nn.Module, policy: str, policies: Policies) -> list[str]:
    """Opens the weights that a policy names and freezes the others.

    Args:
        model: an open_clip model.
        policy: one of ``policies``.
        policies: of the method.

    Returns:
        Names of the parameters that train, in the model's order.

    Raises:
        ValueError: another policy.
    """
    if policy not in policies:
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.CLIP_FINETUNE must be one of {', '.join(policies)}, "
            f"got {policy!r}."
        )
    opens = policies[policy]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(opens(name))
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
