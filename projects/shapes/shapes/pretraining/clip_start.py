"""First weights of a tiny CLIP: image towers that learn quickly, a text tower that stays."""

from __future__ import annotations

import math

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.weights import WeightsError, load_state_dict, model_weights_path
from escnet_d2.weights.baseline_keys import join_attention

from .captions import SENTENCES, all_phrases

# Wave lengths of the positions reach from one patch to this many.
_MAX_WAVE_LENGTH = 100.0
# Strength of the agreement of queries and keys.
_AGREEMENT = 0.7
# Of the text tower's own training.
_TEXT_LR, _TEXT_WARMUP, _TEXT_TEMPERATURE = 1e-3, 50, 10.0
# What belongs to neither tower.
_SCALES = ("logit_scale", "logit_bias")


@torch.no_grad()
def initialize_vit(visual: VisionTransformer) -> None:
    """Sets position embeddings, queries and keys of an image tower with split attention.

    A plain ViT has to learn which patches lie beside each other; with little data that takes most
    of the training. Sinusoidal positions, and queries that agree with keys, start it with attention
    to what is near and alike (mimetic initialization, arXiv 2305.09828).

    Args:
        visual: open_clip's tower, changed in place; a width that is a multiple of 4.
    """
    positions = visual.positional_embedding
    positions[1:] = sinusoidal_positions(tuple(visual.grid_size), positions.shape[1])
    positions[0] = 0
    for block in visual.transformer.resblocks:
        attention = block.attn
        dim = attention.q_proj_weight.shape[1]
        for rows in torch.arange(dim).chunk(attention.num_heads):
            # An orthonormal basis of a random subspace for each head.
            basis = nn.init.orthogonal_(torch.empty(len(rows), dim)) * math.sqrt(_AGREEMENT)
            attention.q_proj_weight[rows] = basis
            attention.k_proj_weight[rows] = basis


def sinusoidal_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Sines and cosines of row and column, (H W, width)."""
    frequencies = _MAX_WAVE_LENGTH ** (-torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(side).float() for side in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (rows, columns)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)


@torch.no_grad()
def initialize_convnext(visual: nn.Module) -> None:
    """Sets the weights of an image tower so that its blocks do something from the first step on.

    timm starts small models as it starts large ones: layer scales of 1e-6 and narrow weights, which
    a few hundred steps hardly leave.

    Args:
        visual: open_clip's tower, a ConvNeXt; changed in place.
    """
    for module in visual.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # Keeps the variance of what it reads.
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, parameter in visual.named_parameters():
        if name.endswith(".gamma"):
            parameter.fill_(1.0)


def teach_text_tower(clip: nn.Module, *, iterations: int = 75, batch_size: int = 64) -> None:
    """Trains a text tower to tell phrases apart, whatever sentence they stand in, and freezes it.

    Contrast of each phrase in one sentence with all of them in another (SimCSE, arXiv 2104.08821).
    Image towers then learn its space, as in LiT (arXiv 2111.07991): beside a text tower that starts
    with them, they learn colors and textures and hardly a shape.

    Args:
        clip: a ``ClipEncoder``, changed in place.
        iterations: steps of AdamW; more would tell phrases apart that share words.
        batch_size: phrases in each.
    """
    phrases = [phrase.text for phrase in all_phrases()]
    parameters = [value for name, value in clip.model.named_parameters() if _is_text(name)]
    optimizer = torch.optim.AdamW(parameters, lr=_TEXT_LR, betas=(0.9, 0.98))
    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = _TEXT_LR * min(1.0, (iteration + 1) / _TEXT_WARMUP)
        chosen = torch.randperm(len(phrases))[:batch_size].tolist()
        views = [
            clip.text.encode_sentences([SENTENCES[index].format(phrases[i]) for i in chosen])
            for index in torch.randperm(len(SENTENCES))[:2].tolist()
        ]
        logits = _TEXT_TEMPERATURE * views[0] @ views[1].t()
        loss = F.cross_entropy(logits, torch.arange(len(chosen), device=logits.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for parameter in parameters:
        parameter.requires_grad_(False)


def take_text_tower(model: nn.Module, weights: str) -> None:
    """Loads the text tower of other weights into a model and freezes it.

    The image tower and the temperature stay as they are.

    Args:
        model: an open_clip model, changed in place.
        weights: a path, or the name of shipped weights.

    Raises:
        WeightsError: the weights cannot be read, or their text tower does not fit.
    """
    path = model_weights_path(weights)
    text = {
        key: value.float()
        for key, value in join_attention(load_state_dict(path)).items()
        if _is_text(key)
    }
    try:
        missing, unexpected = model.load_state_dict(text, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"The text tower of {path} does not fit: {error}") from error
    missing = [key for key in missing if _is_text(key)]
    if missing or unexpected:
        raise WeightsError(
            f"The text tower of {path} does not fit: missing {missing}, unexpected {unexpected}."
        )
    for key, parameter in model.named_parameters():
        if _is_text(key):
            parameter.requires_grad_(False)


def _is_text(key: str) -> bool:
    return not key.startswith("visual.") and key not in _SCALES
