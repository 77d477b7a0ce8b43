#!/usr/bin/env python
r"""Pre-trains the tiny SAM of the data set `shapes` on masks of the seen classes.

    python tools/pretrain_sam.py --output output/shapes/sam

The weights are exported only if it then finds the masks of scenes that it never saw well enough;
`--resume` goes on after an interruption.
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
from escnet_d2.outputs.atomic import write_json
from escnet_d2.pretraining.export import export_weights
from escnet_d2.pretraining.loop import run_pretraining
from escnet_d2.pretraining.prompt_batches import PromptBatches
from escnet_d2.pretraining.sam_accuracy import sam_accuracy
from escnet_d2.pretraining.tiny_sam import PromptedSam, build_tiny_sam

logger = logging.getLogger("escnet_d2.pretrain_sam")


def get_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="escnet_tiny_shapes", help="whose MODEL.SAM")
    parser.add_argument("--output", type=Path, default=Path("output/shapes/sam"), metavar="DIR")
    parser.add_argument("--max-iter", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-prompts", type=int, default=4, help="per image")
    parser.add_argument("--base-lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-threads", type=int, default=0, help="of torch; 0 leaves its choice")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that draw scenes")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--min-iou",
        type=float,
        default=0.7,
        help="mean IoU wanted for five points and a coarse mask (default 0.7)",
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
    model = PromptedSam(build_tiny_sam(cfg))
    train, val = (
        PromptBatches(
            prepare_split(shapes_root(), name, num_workers=args.num_workers),
            batch_size=args.batch_size,
            num_prompts=args.num_prompts,
            seed=args.seed,
        )
        for name in ("train", "val")
    )
    start = time.process_time()
    run_pretraining(
        model,
        train,
        args.output,
        max_iter=args.max_iter,
        base_lr=args.base_lr,
        weight_decay=0.05,
        warmup_iters=100,
        checkpoint_period=200,
        resume=args.resume,
    )
    accuracy = sam_accuracy(model.eval(), val)
    logger.info("Mean IoU: %s", {name: round(value, 3) for name, value in accuracy.items()})
    write_json(
        args.output / "accuracy.json",
        {
            **accuracy,
            "cpu_seconds": round(time.process_time() - start),
            "iterations": args.max_iter,
        },
    )
    if accuracy["five_points_and_mask"] < args.min_iou:
        logger.error(
            "Mean IoU %.3f is below %.3f: nothing exported.",
            accuracy["five_points_and_mask"],
            args.min_iou,
        )
        return 1
    path = args.output / "sam.safetensors"
    export_weights(model.sam.state_dict(), path, ())
    logger.info("Wrote %s (%.2f MB)", path, path.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
