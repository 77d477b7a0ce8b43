"""Leaves rows of a token embedding out of a file, and puts them back when it is read.

A small model that was trained on a few sentences knows a few dozen of the 49,408 tokens of CLIP's
tokenizer; the others would be most of its file.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_WEIGHT = "token_embedding.weight"
# Beside the rows that are kept: their token ids, and how many tokens there are.
_IDS = "token_embedding.kept_ids"
_SIZE = "token_embedding.num_tokens"


def keep_token_rows(state_dict: dict[str, Tensor], ids: Iterable[int]) -> dict[str, Tensor]:
    """Keeps only some rows of every token embedding.

    Args:
        state_dict: with one or more names that end in ``token_embedding.weight``.
        ids: tokens to keep.

    Returns:
        A new dict; :func:`restore_token_rows` reads it.
    """
    kept = torch.tensor(sorted(set(ids)), dtype=torch.int32)
    result = dict(state_dict)
    for name, weight in state_dict.items():
        if name.endswith(_WEIGHT):
            prefix = name[: -len(_WEIGHT)]
            result[name] = weight[kept.long()].clone()
            result[prefix + _IDS] = kept
            result[prefix + _SIZE] = torch.tensor(len(weight), dtype=torch.int32)
    return result


def restore_token_rows(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undoes :func:`keep_token_rows`; leaves other state dicts as they are.

    Tokens that were left out get the mean of those kept: a word that the model never read says
    nothing, and so changes little.
    """
    result = dict(state_dict)
    for name in state_dict:
        if not name.endswith(_IDS):
            continue
        prefix = name[: -len(_IDS)]
        ids, size = result.pop(prefix + _IDS), result.pop(prefix + _SIZE)
        rows = result[prefix + _WEIGHT]
        full = rows.float().mean(dim=0).to(rows.dtype).repeat(int(size), 1)
        full[ids.long()] = rows
        result[prefix + _WEIGHT] = full
    return result
