"""Description of the model that makes a result, in words and numbers that travel with it."""

from __future__ import annotations

from pathlib import Path

import yaml
from detectron2.config import CfgNode

from escnet_d2.config import method_of
from escnet_d2.weights import model_weights_path


def lacks_weights(cfg: CfgNode) -> bool:
    """Returns whether part of the model has random weights that only a checkpoint replaces."""
    if cfg.MODEL.WEIGHTS:
        return False
    return method_of(cfg).has_head or cfg.MODEL.CLIP.WEIGHTS == "random"


def describe_model(cfg: CfgNode) -> dict[str, object]:
    """Describes in plain data the model that makes the labels, for records.

    Returns:
        ``weights``: ``file`` (None without one), ``trained``, and a ``description`` for people.
    """
    file = model_weights_path(cfg.MODEL.WEIGHTS) or None
    untrained = lacks_weights(cfg)
    if untrained:
        description = (
            "UNTRAINED: no checkpoint was given, so the head has random weights and the labels "
            "mean nothing"
        )
    elif file is None:
        description = f"CLIP weights {cfg.MODEL.CLIP.WEIGHTS}, no head"
    else:
        description = f"checkpoint {file}"
    return {"weights": {"file": file, "trained": not untrained, "description": description}}


def require_weights(cfg: CfgNode, *, allow_untrained: bool) -> None:
    """Raises ValueError where random weights would be used that nobody has asked for."""
    if lacks_weights(cfg) and not allow_untrained:
        raise ValueError(
            "The model is untrained: give a checkpoint by --weights or MODEL.WEIGHTS "
            "(docs/weights.md names some), or --allow-untrained to run with random weights, whose "
            "labels mean nothing."
        )


def model_settings(cfg: CfgNode) -> dict[str, object]:
    """Returns in plain data all that the labels of an image depend on but the vocabulary.

    That is the configuration as it was resolved, without the device, and the checkpoint's path,
    size in bytes and time of modification in ns.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
    """
    config = yaml.safe_load(cfg.dump())
    del config["MODEL"]["DEVICE"], config["MODEL"]["WEIGHTS"]
    file = model_weights_path(cfg.MODEL.WEIGHTS)
    weights: dict[str, object] = {"file": file}
    # Addresses, which Detectron2 resolves itself, stay without.
    if file and "://" not in file:
        if not Path(file).is_file():
            raise FileNotFoundError(f"Checkpoint {file} does not exist.")
        status = Path(file).stat()
        weights.update(size=status.st_size, modified=status.st_mtime_ns)
    return {"config": config, "weights": weights}
