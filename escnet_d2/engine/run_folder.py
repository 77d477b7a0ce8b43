"""The folder of a run: its results are of one configuration, the one in its ``config.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from escnet_d2.evaluation.results import RESULTS_NAME

# Where a run's results go, and of which data sets they are.
_FREE_KEYS = ("DATASETS.TEST", "OUTPUT_DIR")


def inference_dir(cfg: CfgNode) -> Path:
    """The folder of a run's results, with one folder for each data set."""
    return Path(cfg.OUTPUT_DIR) / "inference"


def claim_output_dir(cfg: CfgNode, *, rerun: bool) -> None:
    """Makes sure that ``OUTPUT_DIR`` will hold results of one configuration.

    To be called before its ``config.yaml`` is overwritten.

    Args:
        cfg: of the run that starts.
        rerun: whether its data sets are evaluated again. Their old results are removed, and those
            that a training left, which are of whatever checkpoint there was.

    Raises:
        ValueError: there are further results, of a configuration that differs in more than
            ``DATASETS.TEST``; names the keys.
    """
    rerun = rerun or (Path(cfg.OUTPUT_DIR) / "last_checkpoint").is_file()
    found = {path.parent.name: path for path in inference_dir(cfg).glob(f"*/{RESULTS_NAME}")}
    replaced = found.keys() & set(cfg.DATASETS.TEST) if rerun else set()
    others = sorted(found.keys() - replaced)
    differing = differing_keys(cfg) if others else []
    if differing:
        raise ValueError(
            f"{cfg.OUTPUT_DIR} holds results of another configuration on {', '.join(others)}; what "
            f"differs: {', '.join(differing)}. Choose another OUTPUT_DIR, or evaluate all of these "
            "data sets again with --rerun."
        )
    for name in replaced:
        found[name].unlink(missing_ok=True)


def differing_keys(cfg: CfgNode) -> list[str]:
    """Keys whose values differ from those of the run in ``OUTPUT_DIR``, or that only one has.

    ``DATASETS.TEST`` and ``OUTPUT_DIR`` are left out.
    """
    try:
        text = (Path(cfg.OUTPUT_DIR) / "config.yaml").read_text(encoding="utf-8")
        earlier = flat_settings(yaml.safe_load(text))
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return ["its config.yaml is missing or damaged"]
    own, missing = flat_settings(yaml.safe_load(cfg.dump())), object()
    return [
        key
        for key in sorted({*own, *earlier})
        if key not in _FREE_KEYS and own.get(key, missing) != earlier.get(key, missing)
    ]


def flat_settings(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as one dict with full keys, such as ``MODEL.CLIP.NAME``."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict) and value:
            flat.update(flat_settings(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
