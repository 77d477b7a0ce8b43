"""The part of a SAM checkpoint that ESC-Net uses: prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Collection
from os import PathLike

from torch import Tensor

from .state_dict import WeightsError, load_state_dict

_MISSING_SHOWN = 5


def sam_decoder_state_dict(path: str | PathLike[str], names: Collection[str]) -> dict[str, Tensor]:
    """Reads some of SAM's tensors; the image encoder and the mask heads stay in the file.

    Args:
        path: an official SAM checkpoint of any image encoder, or a file reduced to these parts.
        names: of the wanted tensors, which are SAM's own: ``prompt_encoder.*``, ``mask_decoder.*``.

    Returns:
        All of them by name; their shapes are for the model to check.

    Raises:
        WeightsError: the file is not a weights file, or lacks some of these tensors; names the
            file and the first missing ones.
    """
    tensors = load_state_dict(path)
    missing = [name for name in names if name not in tensors]
    if missing:
        more = f" and {len(missing) - _MISSING_SHOWN} more" if len(missing) > _MISSING_SHOWN else ""
        raise WeightsError(
            f"{path} is not a complete SAM checkpoint: it lacks "
            f"{', '.join(missing[:_MISSING_SHOWN])}{more}."
        )
    return {name: tensors[name] for name in names}
