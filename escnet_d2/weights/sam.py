"""The part of a SAM checkpoint that ESC-Net uses: prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from torch import Tensor

from .errors import WeightsError
from .state_dict import load_state_dict

_KEPT_PARTS = ("prompt_encoder.", "mask_decoder.")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
_MISSING_SHOWN = 5


def sam_decoder_state_dict(
    path: str | PathLike[str], *, depth: int = 2, num_mask_tokens: int = 4
) -> dict[str, Tensor]:
    """Reads SAM's prompt encoder and mask decoder; the image encoder is left in the file.

    Args:
        path: an official SAM checkpoint of any image encoder, or a file reduced to these parts.
        depth: layers of the two-way transformer (``MODEL.SAM.DEPTH``).
        num_mask_tokens: mask tokens of the decoder (``MODEL.SAM.NUM_MASK_TOKENS``).

    Returns:
        Tensors under SAM's own names, ``prompt_encoder.*`` and ``mask_decoder.*``. All that the
        model needs are there; their shapes are for the model to check.

    Raises:
        WeightsError: the file is no weights file, or lacks some of these tensors; names the file
            and the first missing ones.
    """
    path = Path(path)
    tensors = {
        name: value for name, value in load_state_dict(path).items() if name.startswith(_KEPT_PARTS)
    }
    missing = [name for name in _official_names(depth, num_mask_tokens) if name not in tensors]
    if missing:
        more = f" and {len(missing) - _MISSING_SHOWN} more" if len(missing) > _MISSING_SHOWN else ""
        raise WeightsError(
            f"{path} is no complete SAM checkpoint: it lacks {', '.join(missing[:_MISSING_SHOWN])}"
            f"{more}."
        )
    return tensors


def _official_names(depth: int, num_mask_tokens: int) -> Iterator[str]:
    for name in _prompt_encoder_names():
        yield f"prompt_encoder.{name}"
    for name in _transformer_names(depth):
        yield f"mask_decoder.transformer.{name}"
    for name in _mask_decoder_names(num_mask_tokens):
        yield f"mask_decoder.{name}"


def _prompt_encoder_names() -> Iterator[str]:
    yield "pe_layer.positional_encoding_gaussian_matrix"
    # Two kinds of points and two corners of a box.
    for kind in range(4):
        yield f"point_embeddings.{kind}.weight"
    yield "not_a_point_embed.weight"
    yield "no_mask_embed.weight"
    # Convolutions and norms of the mask encoder; the numbers between are activations.
    yield from _affine("mask_downscaling", (0, 1, 3, 4, 6))


def _transformer_names(depth: int) -> Iterator[str]:
    attentions = ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
    for layer in range(depth):
        for attention in attentions:
            yield from _affine(f"layers.{layer}.{attention}", _PROJECTIONS)
        yield from _affine(f"layers.{layer}.mlp", ("lin1", "lin2"))
        yield from _affine(f"layers.{layer}", ("norm1", "norm2", "norm3", "norm4"))
    yield from _affine("final_attn_token_to_image", _PROJECTIONS)
    yield from _affine("norm_final_attn", ())


def _mask_decoder_names(num_mask_tokens: int) -> Iterator[str]:
    yield "iou_token.weight"
    yield "mask_tokens.weight"
    yield from _affine("output_upscaling", (0, 1, 3))
    for token in range(num_mask_tokens):
        yield from _affine(f"output_hypernetworks_mlps.{token}.layers", (0, 1, 2))
    yield from _affine("iou_prediction_head.layers", (0, 1, 2))


def _affine(module: str, children: tuple[object, ...]) -> Iterator[str]:
    """Names of weight and bias of a module's children, or of the module itself without any."""
    for owner in [f"{module}.{child}" for child in children] or [module]:
        yield f"{owner}.weight"
        yield f"{owner}.bias"
