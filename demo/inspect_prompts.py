#!/usr/bin/env python3
r"""Draws what happens inside ESC-Net: correlation, regions, pseudo points and masks of each block.

::

    python demo/inspect_prompts.py --config-file escnet_tiny_shapes --weights escnet_tiny_shapes \
        --input demo/images/00000.png --vocabulary "striped red circle, grass" --output results/

One picture per image: a row for each class and ESC-Block, with CLIP's correlation or the refined
class map, the probability map with its pseudo points, the regions of the k-means, and the pseudo
mask (figures 3 and 6 of the paper).
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

logger = logging.getLogger("escnet_d2.inspect_prompts")


def argument_parser() -> argparse.ArgumentParser:
    """Returns the parser; without importing the package, so that ``--help`` is quick."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--input", nargs="+", required=True, metavar="PATH", help="folders, images or quoted globs")
    add("--output", required=True, metavar="DIR", help="where the pictures go")
    add("--vocabulary", required=True, metavar="WORDS|FILE|NAME", help="as for demo.py")
    add("--config-file", default="escnet_tiny_shapes", metavar="F", help="name or path")
    add("--weights", metavar="FILE", help="checkpoint; default: MODEL.WEIGHTS of the config")
    add("--allow-untrained", action="store_true", help="run with random weights, for trials")
    add("--device", metavar="D", help="cpu, cuda, cuda:1; default: MODEL.DEVICE of the config")
    add("--classes", metavar="NAMES", help="comma-separated classes to draw; default: the largest")
    add("--max-classes", type=int, default=4, help="how many without --classes (%(default)s)")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys")
    return parser


def run(args: argparse.Namespace) -> int:
    """Draws one picture per image; returns the number of images without one.

    Raises:
        OSError: an input folder or the output folder is not usable.
        ValueError: an argument with a wrong value, or a model without ESC-Blocks.
        RuntimeError: weights that cannot be loaded.
    """
    from prompt_picture import draw_prompt_picture, inspect_image

    from escnet_d2.engine import OpenVocabPredictor
    from escnet_d2.engine.console import release_messages
    from escnet_d2.engine.model_description import require_weights
    from escnet_d2.engine.predictor import configured_vocabulary, inference_config
    from escnet_d2.io import read_image
    from escnet_d2.outputs import check_output_folder, find_images

    if args.max_classes < 1:
        raise ValueError(f"--max-classes must be at least 1, got {args.max_classes}.")
    images, _ = find_images(args.input)
    check_output_folder(args.output)
    cfg = inference_config(
        args.config_file, weights=args.weights, device=args.device, opts=args.opts
    )
    require_weights(cfg, allow_untrained=args.allow_untrained)
    vocabulary = configured_vocabulary(cfg, args.vocabulary)
    predictor = OpenVocabPredictor(cfg)
    wanted = [name.strip() for name in (args.classes or "").split(",") if name.strip()] or None
    num_failed = 0
    for image in images:
        path = Path(args.output) / f"{image.name}_prompts.png"
        try:
            pixels = read_image(image.path)
        except (OSError, ValueError) as error:
            release_messages()
            logger.error("Failed: %s: %s", image.path, error)
            num_failed += 1
            continue
        inspection = inspect_image(
            predictor, pixels, vocabulary, classes=wanted, max_classes=args.max_classes
        )
        release_messages()
        if not inspection.class_names:
            logger.error("Failed: %s: there is no class to draw.", image.path)
            num_failed += 1
            continue
        # Names of images from several folders have folders of their own.
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_prompt_picture(inspection).save(path)
        logger.info("Wrote %s: %s", path, ", ".join(inspection.class_names))
    return num_failed


def main() -> int:
    """Runs the program; a usage error ends in one line of explanation."""
    args = argument_parser().parse_args()
    from escnet_d2.engine.console import held_messages, report_error

    try:
        with held_messages():
            return 1 if run(args) else 0
    except (OSError, ValueError, RuntimeError) as error:
        report_error(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
