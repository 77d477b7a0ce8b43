#!/usr/bin/env python3
"""Trains and evaluates open-vocabulary semantic segmentation; see docs/training.md.

::

    python train_net.py --config-file escnet_tiny DATASETS.FOLDERS '("data/my_photos",)'
    python train_net.py --config-file escnet_vitb16_384_bs4_80k --num-gpus 4
    python train_net.py --config-file FILE --eval-only MODEL.WEIGHTS model_final.pth
"""

from __future__ import annotations

import argparse
import logging
import sys

from escnet_d2.engine import Trainer, TrainingCheckpointer, argument_parser, launch, setup
from escnet_d2.engine.model_description import lacks_weights

logger = logging.getLogger("escnet_d2.train_net")


def main(args: argparse.Namespace) -> None:
    """Runs one process of a training or an evaluation.

    Args:
        args: of :func:`escnet_d2.engine.argument_parser`.
    """
    try:
        cfg = setup(args)
    except (ValueError, FileNotFoundError) as error:
        # Wrong use; whatever happens later keeps its traceback.
        sys.exit(f"train_net.py: error: {error}")
    if not args.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
        return
    model = Trainer.build_model(cfg)
    checkpointer = TrainingCheckpointer(model, cfg.OUTPUT_DIR)
    if lacks_weights(cfg) and not (args.resume and checkpointer.has_checkpoint()):
        logger.warning("MODEL.WEIGHTS is empty: evaluating a head that was never trained.")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    Trainer.test(cfg, model)


if __name__ == "__main__":
    arguments = argument_parser().parse_args()
    launch(main, arguments)
