"""Names of tensors in checkpoints of the CAT-Seg and SED releases, against open_clip's.

The releases keep CLIP below ``sem_seg_head.predictor.clip_model.``. CAT-Seg holds separate query,
key and value weights for every attention; SED holds them joined, as open_clip does. Everything else
of CLIP has open_clip's names, which are OpenAI's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .methods import checkpoint_method

CLIP_PREFIX = "sem_seg_head.predictor.clip_model."
# ESC-Net's checkpoints keep the same tensors, with split attention, below this.
ESCNET_CLIP_PREFIX = "clip.model."

JOINED = "in_proj_weight"
# In the order in which open_clip stacks them along the first dimension.
SPLIT = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


def baseline_method(names: Mapping[str, object]) -> str:
    """Returns the method that a checkpoint is of, "CATSeg" or "SED"; ValueError for others."""
    method = checkpoint_method(names)
    if method not in ("CATSeg", "SED"):
        raise ValueError(f"No checkpoint of CATSeg or SED, but of {method or 'no known model'}.")
    return method


def join_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stacks query, key and value weights into open_clip's single tensor; joined ones stay.

    Raises:
        ValueError: one of the three is missing.
    """
    joined: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix, _, last = name.rpartition(".")
        if last not in SPLIT:
            joined[name] = tensor
            continue
        parts = [f"{prefix}.{part}" for part in SPLIT]
        missing = [part for part in parts if part not in tensors]
        if missing:
            raise ValueError(f"{name} stands without {', '.join(missing)}.")
        if last == SPLIT[0]:
            joined[f"{prefix}.{JOINED}"] = torch.cat([tensors[part] for part in parts])
    return joined


def split_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cuts open_clip's single tensor into query, key and value weights; inverts the joining."""
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix, _, last = name.rpartition(".")
        if last == JOINED:
            split.update(zip((f"{prefix}.{part}" for part in SPLIT), tensor.chunk(len(SPLIT))))
        else:
            split[name] = tensor
    return split


def open_clip_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes CLIP out of a checkpoint of CAT-Seg, SED or ESC-Net, under open_clip's names.

    Raises:
        ValueError: it holds no CLIP, or an incomplete one.
    """
    for prefix in (CLIP_PREFIX, ESCNET_CLIP_PREFIX):
        found = {
            name[len(prefix) :]: tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if found:
            return join_attention(found)
    raise ValueError(
        f"It holds no CLIP: none of its names begins with {CLIP_PREFIX} or {ESCNET_CLIP_PREFIX}"
    )


def baseline_clip_tensors(tensors: Mapping[str, Tensor], *, method: str) -> dict[str, Tensor]:
    """Names open_clip's tensors as the release of a method; inverts :func:`open_clip_tensors`.

    Args:
        tensors: by open_clip's names.
        method: "CATSeg", which splits attention weights, or "SED".
    """
    named = split_attention(tensors) if method == "CATSeg" else tensors
    return {f"{CLIP_PREFIX}{name}": tensor for name, tensor in named.items()}


def save_baseline_checkpoint(tensors: Mapping[str, Tensor], path: str | Path) -> str:
    """Writes the file that the release's own program loads: ``{"model": tensors}``, float32.

    Args:
        tensors: all of a model of CATSeg or SED, by its names, which are the release's.
        path: of the file, which must not exist.

    Returns:
        The method.

    Raises:
        FileExistsError: the file is there.
        ValueError: the tensors are of another model.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} is there already.")
    method = baseline_method(tensors)
    # Attention of SED is joined, of CAT-Seg split, whatever program the weights come from.
    clip = baseline_clip_tensors(open_clip_tensors(tensors), method=method)
    rest = {name: t for name, t in tensors.items() if not name.startswith(CLIP_PREFIX)}
    # Storage of its own for each, or parts of a joined tensor would carry all of it.
    model = {name: tensor.float().clone() for name, tensor in {**clip, **rest}.items()}
    torch.save({"model": model}, path)
    return method
