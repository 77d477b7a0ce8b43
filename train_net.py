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
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.utils import comm

from escnet_d2.engine import Trainer, TrainingCheckpointer, argument_parser, launch, setup
from escnet_d2.engine.model_description import lacks_weights
from escnet_d2.engine.output_dir import empty_training_folder

logger = logging.getLogger("escnet_d2.engine.train_net")


def main(args: argparse.Namespace) -> None:
    """Runs one process of a training or an evaluation.

    Args:
        args: of :func:`escnet_d2.engine.argument_parser`.
    """
    cfg = setup(args)
    if args.eval_only:
        evaluate(cfg, resume=args.resume)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    if args.overwrite and not args.resume and comm.is_main_process():
        empty_training_folder(cfg)
    trainer.train()


def evaluate(cfg: CfgNode, *, resume: bool) -> None:
    """Evaluates ``MODEL.WEIGHTS`` or, to ``resume``, the last checkpoint in ``OUTPUT_DIR``."""
    model = Trainer.build_model(cfg)
    checkpointer = TrainingCheckpointer(model, cfg.OUTPUT_DIR)
    if lacks_weights(cfg) and not (resume and checkpointer.has_checkpoint()):
        logger.warning("MODEL.WEIGHTS is empty: evaluating a head that was never trained.")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    Trainer.test(cfg, model)


def run(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and starts the processes.

    Args:
        arguments: of the command line, by default those of this process.
    """
    launch(main, argument_parser().parse_args(arguments))


if __name__ == "__main__":
    run()
