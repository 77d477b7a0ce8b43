#!/usr/bin/env python
r"""Pre-trains the tiny CLIP of the data set `shapes` on captions and boxes, without any mask.

    python tools/pretrain_clip.py --output output/shapes/clip

It reads every class, as web text does. The weights are exported only if it then names the things of
scenes that it never saw well enough; `--resume` goes on after an interruption.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import torch
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from escnet_d2.config import get_cfg
from escnet_d2.data.shapes import prepare_split, shapes_root
from escnet_d2.engine import find_config
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.outputs.atomic import write_json
from escnet_d2.pretraining.clip_accuracy import clip_accuracy
from escnet_d2.pretraining.export import export_weights, known_token_ids
from escnet_d2.pretraining.loop import run_pretraining
from escnet_d2.pretraining.region_batches import RegionBatches
from escnet_d2.pretraining.region_clip import RegionClip
from escnet_d2.pretraining.vit_init import initialise_vit

logger = logging.getLogger("escnet_d2.pretrain_clip")


def get_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="escnet_tiny_shapes", help="whose MODEL.CLIP")
    parser.add_argument("--output", type=Path, default=Path("output/shapes/clip"), metavar="DIR")
    parser.add_argument("--max-iter", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--base-lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-threads", type=int, default=0, help="of torch; 0 leaves its choice")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that draw scenes")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--min-shape-accuracy",
        type=float,
        default=0.6,
        help="share of boxes whose shape must be named rightly (default 0.6)",
    )
    return parser


def main() -> int:
    """Trains, measures, exports; returns an exit code."""
    args = get_parser().parse_args()
    setup_logger(str(args.output), name="escnet_d2")
    setup_logger(str(args.output), name="detectron2")
    setup_logger(name="fvcore")
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    seed_all_rng(args.seed)
    cfg = get_cfg()
    cfg.merge_from_file(find_config(args.config_file))
    cfg.MODEL.CLIP.WEIGHTS, cfg.MODEL.CLIP.FINETUNE = "random", "full"
    model = RegionClip(ClipEncoder(cfg))
    initialise_vit(model.clip.model.visual)
    train, val = (
        prepare_split(shapes_root(), name, num_workers=args.num_workers)
        for name in ("pretrain", "pretrain_val")
    )
    start = time.process_time()
    run_pretraining(
        model,
        RegionBatches(
            train,
            patch_size=model.clip.patch_size,
            batch_size=args.batch_size,
            seed=args.seed,
        ),
        args.output,
        max_iter=args.max_iter,
        base_lr=args.base_lr,
        weight_decay=0.05,
        warmup_iters=100,
        checkpoint_period=200,
        resume=args.resume,
    )
    accuracy = clip_accuracy(model.eval(), val)
    logger.info("Accuracy: %s", {name: round(value, 3) for name, value in accuracy.items()})
    write_json(
        args.output / "accuracy.json",
        {
            **accuracy,
            "cpu_seconds": round(time.process_time() - start),
            "iterations": args.max_iter,
        },
    )
    if accuracy["shape"] < args.min_shape_accuracy:
        logger.error(
            "Shape accuracy %.3f is below %.3f: nothing exported.",
            accuracy["shape"],
            args.min_shape_accuracy,
        )
        return 1
    path = args.output / "clip.safetensors"
    export_weights(
        model.clip.model.state_dict(), path, known_token_ids(model.clip.tokenizer, train)
    )
    logger.info("Wrote %s (%.2f MB)", path, path.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
