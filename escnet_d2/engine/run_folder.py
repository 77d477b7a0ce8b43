"""The folder of a training, OUTPUT_DIR: no other training replaces or continues it by mistake."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import yaml
from detectron2.config import CfgNode

from escnet_d2.config import key_values, read_config

# A run that goes on with other values of these is another run, but for where its files are.
_OF_A_RUN = ("DATASETS.TRAIN", "VOCABULARY.TRAIN", "MODEL.")
_OF_A_MACHINE = ("WEIGHTS", "DEVICE")


def check_run_folder(cfg: CfgNode, *, resume: bool, overwrite: bool, allow_changes: bool) -> None:
    """Keeps a training from replacing or continuing another one by mistake.

    Args:
        cfg: of the training that is about to start; ``OUTPUT_DIR`` is read.
        resume: whether it goes on from the last checkpoint there.
        overwrite: whether checkpoints there may be replaced.
        allow_changes: whether it may go on with another model, data set or class list.

    Raises:
        ValueError: names the checkpoints or keys, and the flag that allows it.
    """
    folder = cfg.OUTPUT_DIR
    found = _checkpoints(folder)
    if not found:
        return
    if not resume:
        if not overwrite:
            raise ValueError(
                f"OUTPUT_DIR {folder} holds checkpoints of another training, such as {found[-1]}: "
                "--resume goes on with it, --overwrite deletes them; or choose another OUTPUT_DIR."
            )
        weights = os.path.realpath(cfg.MODEL.WEIGHTS)
        if weights in (os.path.realpath(os.path.join(folder, name)) for name in found):
            raise ValueError(
                f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} is one of the checkpoints that --overwrite "
                "deletes: copy it, or choose another OUTPUT_DIR."
            )
        return
    written = os.path.join(folder, "config.yaml")
    if allow_changes or not os.path.isfile(written):
        return
    changed = changed_keys(read_config(written), cfg)
    if changed:
        raise ValueError(
            f"--resume: {written} has another {', '.join(changed)} than this run. Give the "
            "configuration of that run, choose another OUTPUT_DIR, or go on with --allow-changes."
        )


def empty_run_folder(folder: str) -> None:
    """Deletes the checkpoints and metrics of another training, which this one would mix with."""
    for name in [*_checkpoints(folder), "last_checkpoint"]:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, name))
    metrics = os.path.join(folder, "metrics.json")
    if os.path.isfile(metrics):
        # Emptied, not deleted: this training's writer has opened it already.
        os.truncate(metrics, 0)


def changed_keys(written: Mapping[str, Any], cfg: CfgNode) -> list[str]:
    """Returns the keys of model, training data and class list that differ.

    Args:
        written: a run's ``config.yaml``, as :func:`escnet_d2.config.read_config` returns it.
        cfg: compared on the keys that both have; paths of weights and devices do not count.
    """
    now = dict(key_values(yaml.safe_load(cfg.dump())))
    return [
        key
        for key, value in key_values(written)
        if key.startswith(_OF_A_RUN)
        and key.rpartition(".")[2] not in _OF_A_MACHINE
        and value != now.get(key, value)
    ]


def _checkpoints(folder: str) -> list[str]:
    """File names of a training's checkpoints, sorted."""
    if not os.path.isdir(folder):
        return []
    return sorted(
        name for name in os.listdir(folder) if name.startswith("model_") and name.endswith(".pth")
    )
