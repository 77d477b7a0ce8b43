"""The configuration of a checkpoint: as it was stored, or found by names and shapes of tensors."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from escnet_d2.config import ConfigNode, get_cfg, method_of
from escnet_d2.weights import (
    PUBLISHED_NAMES,
    WeightsError,
    checkpoint_method,
    load_state_dict,
    model_weights_path,
    shipped_config,
    stored_config,
)

from .config_files import available_configs

_Shapes = Mapping[str, torch.Size]
_CURE = "Give the configuration by --config-file."

logger = logging.getLogger(__name__)


def checkpoint_config(weights: str | os.PathLike) -> tuple[str, CfgNode]:
    """Finds the configuration of a checkpoint.

    Checkpoints of this package hold theirs. Others, such as those of the CAT-Seg and SED releases,
    get the shipped configuration that builds tensors of the same names and shapes, with
    ``TEST.SLIDING_WINDOW`` where the method's published scores were measured so.

    Args:
        weights: a file, or the name of shipped or published weights.

    Returns:
        What to call it, and the configuration: ``MODEL.WEIGHTS`` is ``weights``, ``MODEL.DEVICE``
        a GPU if there is one.

    Raises:
        FileNotFoundError: it is neither; lists the names.
        WeightsError: the file cannot be read or is of no known model; says what was seen.
    """
    spec = os.fspath(weights)
    path = model_weights_path(spec)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"Checkpoint {path} does not exist, and no weights have that name; published ones that "
            f"do: {', '.join(PUBLISHED_NAMES)}."
        )
    name = shipped_config(spec)
    stored = None if name else stored_config(path)
    if stored is not None:
        name, cfg = "that of the checkpoint", _from_stored(stored, path)
    elif name:
        cfg = _shipped(name)
    else:
        name = _match(path)
        cfg = _shipped(name)
        cfg.TEST.SLIDING_WINDOW |= method_of(cfg).slides_window
    logger.info("Configuration: %s", name)
    cfg.MODEL.WEIGHTS = spec
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    return name, cfg


def _from_stored(stored: Mapping[str, object], path: str) -> ConfigNode:
    cfg = get_cfg()
    try:
        cfg.merge_from_other_cfg(CfgNode(dict(stored)))
    except (KeyError, ValueError, AssertionError, AttributeError, TypeError) as error:
        reason = error.args[0] if error.args else error
        raise WeightsError(
            f"{path} holds a configuration that this version does not take: {reason}. {_CURE}"
        ) from error
    return cfg


def _shipped(name: str) -> ConfigNode:
    cfg = get_cfg()
    cfg.merge_from_file(available_configs()[name])
    return cfg


def _match(path: str) -> str:
    """Returns the name of the shipped configuration whose model a file fills."""
    shapes = {name: tensor.shape for name, tensor in load_state_dict(path).items()}
    method = checkpoint_method(shapes)
    if method is None:
        parts = Counter(".".join(name.split(".")[:2]) for name in shapes).most_common(4)
        seen = ", ".join(f"{part}.* ({count})" for part, count in parts)
        raise WeightsError(
            f"{path} is of no known model: its {len(shapes)} tensors are {seen}. {_CURE}"
        )
    models = dict(_models(method))
    fitting = [name for name, model in models.items() if model.items() <= shapes.items()]
    # What one model lacks, such as SAM's blocks, another has.
    most = max((len(models[name]) for name in fitting), default=0)
    best = [name for name in fitting if len(models[name]) == most]
    if len(best) == 1:
        return best[0]
    if best:
        raise WeightsError(f"{path} is a {method} that fits {', '.join(best)}. {_CURE}")
    name, model = min(models.items(), key=lambda item: len(item[1].items() ^ shapes.items()))
    raise WeightsError(
        f"{path} is a {method}, but of no shipped configuration; nearest is {name}, where "
        f"{_difference(shapes, model)}. {_hint(shapes)}{_CURE}"
    )


def _models(method: str) -> Iterator[tuple[str, _Shapes]]:
    """Yields the shipped configurations of a method, and the tensors of the models they build."""
    for name in available_configs():
        cfg = _shipped(name)
        if method == cfg.MODEL.META_ARCHITECTURE:
            # With a checkpoint, CLIP's and SAM's own files are not read. SAM-MI's SAM is in none.
            cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "checkpoint", "meta"
            cfg.MODEL.MASKS.SOURCE = "file"
            with torch.device("meta"):
                model = build_model(cfg)
            yield name, {key: tensor.shape for key, tensor in model.state_dict().items()}


def _difference(file: _Shapes, model: _Shapes) -> str:
    different = [name for name in model if file.get(name) != model[name]]
    name = next(iter(different), None)
    if name is None:
        return f"{len(file.keys() - model.keys())} tensors of the file have no place"
    seen = tuple(file[name]) if name in file else "missing"
    return (
        f"{len(different)} of {len(model)} tensors differ, such as {name}: "
        f"{tuple(model[name])} there, {seen} in the file"
    )


def _hint(file: _Shapes) -> str:
    if any(name.startswith("backbone.") for name in file):
        return "It has a backbone beside CLIP, as CAT-Seg's first version had (docs/weights.md). "
    return ""
