#!/usr/bin/env python
r"""Pre-trains the tiny CLIPs of the data set `shapes` on captions and boxes, without any mask.

    python projects/shapes/pretrain_clip.py --output output/shapes/clip
    python projects/shapes/pretrain_clip.py --output output/shapes/clip_convnext \
        --config-file sed_tiny_shapes --text-tower clip_shapes --base-lr 3e-3

The first makes clip_shapes, text tower included. The second is SED's: a ConvNeXt image tower learns
the space of that text tower.

It reads every class, as web text does. The weights are exported, to clip.safetensors, only if it
then names the things of scenes that it never saw well enough; `--resume` goes on after an
interruption.
"""

from __future__ import annotations

import sys

from escnet_d2.projects.shapes import prepare_split, shapes_root
from escnet_d2.projects.shapes.pretraining.clip_accuracy import clip_accuracy
from escnet_d2.projects.shapes.pretraining.clip_models import build_region_clip
from escnet_d2.projects.shapes.pretraining.clip_start import take_text_tower, teach_text_tower
from escnet_d2.projects.shapes.pretraining.export import export_weights, known_token_ids
from escnet_d2.projects.shapes.pretraining.loop import (
    argument_parser,
    start,
    train_and_measure,
)
from escnet_d2.projects.shapes.pretraining.region_batches import RegionBatches
from escnet_d2.weights import WeightsError


def main() -> int:
    """Trains, measures, exports; returns an exit code."""
    parser = argument_parser(__doc__, max_iter=600, batch_size=10)
    parser.add_argument(
        "--min-shape-accuracy",
        type=float,
        default=0.5,
        help="share of boxes whose shape must be named rightly (default 0.5)",
    )
    parser.add_argument(
        "--text-tower",
        metavar="WEIGHTS",
        help="file or shipped name: the text tower of these instead of a new one",
    )
    args = parser.parse_args()
    try:
        cfg = start(args)
        cfg.MODEL.CLIP.WEIGHTS, cfg.MODEL.CLIP.FINETUNE = "random", "full"
        model = build_region_clip(cfg)
        if args.text_tower:
            take_text_tower(model.clip.model, args.text_tower)
        else:
            teach_text_tower(model.clip)
        train, val = (
            prepare_split(shapes_root(), name, num_workers=args.num_workers)
            for name in ("pretrain", "pretrain_val")
        )
        batches = RegionBatches(
            train, patch_size=model.cell_size, batch_size=args.batch_size, seed=args.seed
        )
    except (OSError, ValueError, WeightsError) as error:
        parser.error(str(error))
    gate = ("shape", args.min_shape_accuracy)
    if not train_and_measure(args, model, batches, lambda: clip_accuracy(model, val), gate=gate):
        return 1
    token_ids = known_token_ids(model.clip.text.tokenizer, train)
    export_weights(model.clip.model.state_dict(), args.output / "clip.safetensors", token_ids)
    return 0


if __name__ == "__main__":
    sys.exit(main())
