r"""Writes a model with fixed classes to one file for torch (.pt2) or ONNX; see docs/export.md.

::

    escnet-d2 export --weights model_base.pth --vocabulary "couch|sofa, dog" --output model.onnx
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", metavar="FILE|NAME", help="as for escnet-d2 segment")
    add("--vocabulary", required=True, metavar="WORDS|FILE|NAME", help="as for escnet-d2 segment")
    add("--output", required=True, metavar="FILE", help="what to write, FILE.pt2 or FILE.onnx")
    add("--config-file", metavar="F", help="name or path; default: that of the weights")
    add("--images", type=int, default=1, metavar="N", help="that a file of ESC-Net takes at a time")
    add("--allow-untrained", action="store_true", help="export random weights, for trials")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code.
    """
    args = argument_parser().parse_args(arguments)
    from escnet_d2.engine.console import held_messages

    with held_messages(logging.WARNING):
        return run(args)


def run(args: argparse.Namespace) -> int:
    """Writes the file and prints what it is; returns the exit code."""
    from escnet_d2.engine import OpenVocabPredictor
    from escnet_d2.engine.console import release_messages
    from escnet_d2.engine.export import (
        TRACED,
        FixedVocabularyModel,
        check_exportable,
        export_model,
    )
    from escnet_d2.engine.model_description import require_weights
    from escnet_d2.engine.predictor import configured_vocabulary, inference_config

    try:
        output = Path(args.output)
        cfg = inference_config(
            args.config_file, weights=args.weights, device="cpu", opts=[*args.opts, *TRACED]
        )
        check_exportable(cfg, output, args.images)
        require_weights(cfg, allow_untrained=args.allow_untrained)
        vocabulary = configured_vocabulary(cfg, args.vocabulary)
        model = FixedVocabularyModel(OpenVocabPredictor(cfg).model, vocabulary, args.images)
        release_messages()
        written = export_model(model, output)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"export: error: {error}\n")
        return 2
    print(f"{output}: {written['method']} of {len(written['class_names'])} classes")
    print(f"images: {written['images']}")
    print(f"scores: {written['scores']}")
    print(f"largest difference from the model, on noise: {written['difference']:.1e}")
    return 0
