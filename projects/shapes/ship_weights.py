#!/usr/bin/env python
r"""Puts trained weights into the package, and what is known of them into its manifest.

    python projects/shapes/ship_weights.py escnet_tiny_shapes output/shapes/escnet/model_final.pth \
        --config-file escnet_tiny_shapes \
        --metrics output/shapes/escnet/inference/shapes_val_sem_seg/results.json \
        --command "python train_net.py --config-file escnet_tiny_shapes"

A checkpoint of Detectron2 is reduced to its weights, in half precision and with the known tokens
only; a safetensors file of the pre-training tools is taken as it is.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import sys
from pathlib import Path

import open_clip
import torch

from escnet_d2.config import get_cfg
from escnet_d2.engine import find_config
from escnet_d2.io import write_json
from escnet_d2.projects.shapes import group_miou, prepare_split, shapes_root
from escnet_d2.projects.shapes.pretraining.export import export_weights, known_token_ids
from escnet_d2.weights import (
    MANIFEST,
    SHIPPED_DIR,
    WeightsError,
    load_state_dict,
    shipped_manifest,
)
from escnet_d2.weights.checksum import sha256_of

# What the repository may hold.
_MAX_TOTAL_BYTES = 12_000_000


def main() -> int:
    """Copies one file and describes it; returns an exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="by which configurations name the weights")
    parser.add_argument("file", type=Path)
    parser.add_argument("--config-file", required=True, help="that the weights were made with")
    parser.add_argument("--command", required=True, help="that made them")
    parser.add_argument(
        "--metrics", required=True, type=Path, help="JSON file of what was measured"
    )
    args = parser.parse_args()
    path = SHIPPED_DIR / f"{args.name}.safetensors"
    SHIPPED_DIR.mkdir(exist_ok=True)
    try:
        metrics = read_metrics(args.metrics)
        if args.file.suffix == ".safetensors":
            shutil.copyfile(args.file, path)
        else:
            cfg = get_cfg()
            cfg.merge_from_file(find_config(args.config_file))
            tokenizer = open_clip.get_tokenizer(cfg.MODEL.CLIP.NAME)
            captions = prepare_split(shapes_root(), "pretrain")
            export_weights(load_state_dict(args.file), path, known_token_ids(tokenizer, captions))
    except (OSError, ValueError, WeightsError) as error:
        parser.error(str(error))
    manifest = shipped_manifest()
    manifest[args.name] = {
        "file": path.name,
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "config": args.config_file,
        "command": args.command,
        "date": datetime.date.today().isoformat(),
        "device": f"CPU, {platform.machine()}, torch {torch.__version__}",
        "metrics": metrics,
    }
    write_json(SHIPPED_DIR / MANIFEST, manifest)
    total = sum(entry["bytes"] for entry in manifest.values())
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; all shipped weights: {total / 1e6:.2f} MB")
    if total > _MAX_TOTAL_BYTES:
        print(f"More than {_MAX_TOTAL_BYTES / 1e6:.0f} MB in all.", file=sys.stderr)
        return 1
    return 0


def read_metrics(path: Path) -> dict[str, float]:
    """Reads measurements: a flat JSON file, or an evaluation's ``results.json`` by groups."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if "per_class" in content:
        return group_miou({record["name"]: record["IoU"] for record in content["per_class"]})
    return content


if __name__ == "__main__":
    sys.exit(main())
