#!/usr/bin/env python
r"""Pre-trains the tiny SAM of the data set `shapes` on masks without names.

    python projects/shapes/pretrain_sam.py --output output/shapes/sam

The weights are exported, to sam.safetensors, only if it then finds the masks of scenes that it
never saw well enough; `--resume` goes on after an interruption.
"""

from __future__ import annotations

import sys

from escnet_d2.projects.shapes import prepare_split, shapes_root
from escnet_d2.projects.shapes.pretraining.export import export_weights
from escnet_d2.projects.shapes.pretraining.loop import (
    argument_parser,
    start,
    train_and_measure,
)
from escnet_d2.projects.shapes.pretraining.prompt_batches import PromptBatches
from escnet_d2.projects.shapes.pretraining.sam_accuracy import sam_accuracy
from escnet_d2.projects.shapes.pretraining.tiny_sam import (
    PromptedSam,
    build_tiny_sam,
    initialize_sam,
)


def main() -> int:
    """Trains, measures, exports; returns an exit code."""
    parser = argument_parser(__doc__, max_iter=3500, batch_size=6)
    parser.add_argument("--num-prompts", type=int, default=6, help="per image")
    parser.add_argument(
        "--min-iou",
        type=float,
        default=0.7,
        help="mean IoU wanted for five points (default 0.7)",
    )
    args = parser.parse_args()
    try:
        sam = build_tiny_sam(start(args))
        initialize_sam(sam)
        model = PromptedSam(sam)
        train, val = (
            PromptBatches(
                prepare_split(shapes_root(), name, num_workers=args.num_workers),
                batch_size=args.batch_size,
                num_prompts=args.num_prompts,
                seed=args.seed,
            )
            for name in ("sam", "sam_val")
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    gate = ("five_points", args.min_iou)
    if not train_and_measure(args, model, train, lambda: sam_accuracy(model, val), gate=gate):
        return 1
    export_weights(model.sam.state_dict(), args.output / "sam.safetensors", ())
    return 0


if __name__ == "__main__":
    sys.exit(main())
