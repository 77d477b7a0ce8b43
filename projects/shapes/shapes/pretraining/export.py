"""Writes trained weights as they are shipped: safetensors, half precision, known tokens only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from escnet_d2.io import atomic_path
from escnet_d2.weights import keep_token_rows

from ..splits import read_captions
from .captions import SENTENCES, all_phrases


def export_weights(state_dict: dict[str, Tensor], path: Path, token_ids: Iterable[int]) -> None:
    """Writes a file that :func:`escnet_d2.weights.load_state_dict` reads.

    Args:
        state_dict: floating-point tensors are stored in half precision.
        path: the file.
        token_ids: rows of the token embedding, if there is one, that are kept.
    """
    kept = keep_token_rows(state_dict, token_ids)
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in kept.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary), metadata={"format": "pt"})


def known_token_ids(
    tokenizer: Callable[[Sequence[str]], Tensor], folder: Path | None = None
) -> list[int]:
    """Tokens of every sentence that pre-training can have shown.

    Args:
        tokenizer: of the model.
        folder: the split ``pretrain``, whose captions are read as well.
    """
    sentences = [sentence.format(phrase.text) for sentence in SENTENCES for phrase in all_phrases()]
    if folder is not None:
        sentences += [scene["caption"] for scene in read_captions(folder)]
    return torch.unique(tokenizer(sentences)).tolist()
