"""Which model made a result, in words and numbers that travel with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from detectron2.config import CfgNode

from escnet_d2.config import method_of
from escnet_d2.weights import model_weights_path
from escnet_d2.weights.checksum import sha256_of


def lacks_weights(cfg: CfgNode) -> bool:
    """Whether part of the model has random weights that only a checkpoint could replace."""
    if cfg.MODEL.WEIGHTS:
        return False
    return method_of(cfg).has_head or cfg.MODEL.CLIP.WEIGHTS == "random"


def describe_model(cfg: CfgNode) -> dict[str, object]:
    """Says in plain data which model makes the labels, for records and to compare runs.

    Args:
        cfg: the configuration that the model was built from.

    Returns:
        ``config_sha256``: of the whole configuration but the device and the path of the weights,
        which change no label. ``weights``: ``file`` and its ``sha256`` (None without a local file),
        ``trained``, and a ``description`` for people.
    """
    neutral = cfg.clone()
    neutral.defrost()
    neutral.MODEL.DEVICE = neutral.MODEL.WEIGHTS = ""
    file = model_weights_path(cfg.MODEL.WEIGHTS) or None
    # Addresses, which Detectron2 resolves itself, stay without.
    digest = sha256_of(Path(file)) if file and Path(file).is_file() else None
    if file is None and not lacks_weights(cfg):
        description = f"CLIP weights {cfg.MODEL.CLIP.WEIGHTS}, no head"
    elif file is None:
        description = (
            "UNTRAINED: no checkpoint was given, so the head has random weights and the labels "
            "mean nothing"
        )
    else:
        description = f"checkpoint {file}"
    return {
        "config_sha256": hashlib.sha256(neutral.dump().encode()).hexdigest(),
        "weights": {
            "file": file,
            "sha256": digest,
            "trained": not lacks_weights(cfg),
            "description": description,
        },
    }
