#!/usr/bin/env python
r"""Pre-trains the tiny CLIP of the data set `shapes` on captions and boxes, without any mask.

    python tools/pretrain_clip.py --output output/shapes/clip

It reads every class, as web text does. The weights are exported, to clip.safetensors, only if it
then names the things of scenes that it never saw well enough; `--resume` goes on after an
interruption.
"""

from __future__ import annotations

import sys

from escnet_d2.data.shapes import prepare_split, shapes_root
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.pretraining.clip_accuracy import clip_accuracy
from escnet_d2.pretraining.command_line import argument_parser, start, train_and_measure
from escnet_d2.pretraining.export import export_weights, known_token_ids
from escnet_d2.pretraining.region_batches import RegionBatches
from escnet_d2.pretraining.region_clip import RegionClip
from escnet_d2.pretraining.vit_init import initialise_vit


def main() -> int:
    """Trains, measures, exports; returns an exit code."""
    parser = argument_parser(__doc__, max_iter=1200, batch_size=32)
    parser.add_argument(
        "--min-shape-accuracy",
        type=float,
        default=0.6,
        help="share of boxes whose shape must be named rightly (default 0.6)",
    )
    args = parser.parse_args()
    cfg = start(args)
    cfg.MODEL.CLIP.WEIGHTS, cfg.MODEL.CLIP.FINETUNE = "random", "full"
    model = RegionClip(ClipEncoder(cfg))
    initialise_vit(model.clip.model.visual)
    train, val = (
        prepare_split(shapes_root(), name, num_workers=args.num_workers)
        for name in ("pretrain", "pretrain_val")
    )
    batches = RegionBatches(
        train, patch_size=model.clip.patch_size, batch_size=args.batch_size, seed=args.seed
    )
    gate = ("shape", args.min_shape_accuracy)
    if not train_and_measure(args, model, batches, lambda: clip_accuracy(model, val), gate=gate):
        return 1
    token_ids = known_token_ids(model.clip.tokenizer, train)
    export_weights(model.clip.model.state_dict(), args.output / "clip.safetensors", token_ids)
    return 0


if __name__ == "__main__":
    sys.exit(main())
