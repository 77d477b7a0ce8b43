r"""Segments photos by class names and writes overlays, label PNGs and JSON; see docs/demo.md.

::

    escnet-d2 segment --weights model_large.pth --input photos/ --output results/ \
        --vocabulary "couch|sofa, dog, grass"
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
# Packages of the extras `video` and `web`.
_OPTIONAL = ("av", "gradio")

logger = logging.getLogger(__name__)


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 all images done, 1 some failed, 2 usage error, 130 interrupted.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--input",
        nargs="+",
        required=True,
        metavar="PATH",
        help="folders, images or quoted globs; or @FILE, a list of images",
    )
    add("--output", required=True, metavar="DIR", help="where results go")
    add_vocabulary_argument(parser, required=True)
    add("--allow-untrained", action="store_true", help="run with random weights, for trials")
    add("--batch-size", type=int, metavar="N", help="default: TEST.IMS_PER_BATCH of the config")
    add("--recursive", action="store_true", help="search the sub-folders of folders too")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", action="store_true", help="go on with a run: skip images whose results exist"
    )
    existing.add_argument(
        "--overwrite", action="store_true", help="delete the results of the run in --output first"
    )
    kinds = "overlay,labels,json"
    add("--save", default=kinds, metavar="KINDS", help="which results (%(default)s)")
    add_drawing_arguments(parser)
    add_model_arguments(parser)
    return parser


def add_vocabulary_argument(parser: argparse.ArgumentParser, **options: object) -> None:
    """Adds ``--vocabulary``."""
    parser.add_argument(
        "--vocabulary",
        metavar="WORDS|FILE|NAME",
        help='"couch|sofa, dog, grass" (comma between classes, | between synonyms), a text or JSON '
        "file, or the name of a data set or bundled class list",
        **options,
    )


def add_drawing_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what overlays look like."""
    add = parser.add_argument
    add(
        "--opacity",
        type=float,
        default=0.5,
        metavar="A",
        help="of the overlay's colors, 0 (outlines only) to 1 (%(default)s)",
    )
    add("--side-by-side", action="store_true", help="overlays beside the image itself")
    add(
        "--confidence",
        type=float,
        default=0.0,
        metavar="T",
        help="leave pixels without a class whose score is lower, 0 to 1 (%(default)s)",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model and its options, which :func:`model_config` reads; to be called last."""
    add = parser.add_argument
    add(
        "--weights",
        metavar="FILE|NAME",
        help="checkpoint, or the name of shipped or published weights (docs/weights.md)",
    )
    add("--config-file", metavar="F", help="name or path; default: that of the weights")
    add("--device", metavar="D", help="cpu, cuda, cuda:1; default: MODEL.DEVICE of the config")
    add("--synonyms", choices=("first", "mean", "max"), help="what further names of a class do")
    add(
        "--background",
        choices=("none", "words", "threshold"),
        help="add a class 'background': found by its own words, or where no score is high enough",
    )
    add("--background-threshold", type=float, metavar="T", help="that score, 0 to 1")
    add(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="configuration keys to change; comes last",
    )


def config_options(args: argparse.Namespace) -> list[object]:
    """Returns the arguments that are configuration keys, and then ``--opts``, which win."""
    background = args.background
    if args.background_threshold is not None:
        background = background or "threshold"
        if background != "threshold":
            raise ValueError("--background-threshold needs --background threshold.")
    values = {
        "VOCABULARY.SYNONYMS": args.synonyms,
        "VOCABULARY.BACKGROUND": background,
        "VOCABULARY.BACKGROUND_THRESHOLD": args.background_threshold,
    }
    given = [item for pair in values.items() if pair[1] is not None for item in pair]
    return [*given, *args.opts]


def model_config(
    args: argparse.Namespace, *, allow_untrained: bool = False
) -> tuple[str, CfgNode, list[object]]:
    """Returns the model's configuration: its name, itself, and the keys that the arguments change.

    Raises:
        OSError, ValueError, RuntimeError: as :func:`run`.
    """
    options = config_options(args)
    from escnet_d2.engine import checkpoint_config
    from escnet_d2.engine.model_description import require_weights
    from escnet_d2.engine.predictor import inference_config

    name = config = args.config_file or "escnet_tiny"
    if args.weights and not args.config_file:
        name, config = checkpoint_config(args.weights)
    cfg = inference_config(config, weights=args.weights, device=args.device, opts=options)
    require_weights(cfg, allow_untrained=allow_untrained)
    return name, cfg, options


def run(args: argparse.Namespace) -> int:
    """Segments what the arguments ask for and returns the exit code.

    Raises:
        OSError: an input, a file that an argument names, or the output folder is not usable.
        ValueError: an argument with a wrong value.
        RuntimeError: weights that cannot be loaded, or a device that is not there.
        AssertionError: a device that torch was built without.
    """
    from escnet_d2.engine.launch import share_of_run, wait_for_torchrun
    from escnet_d2.outputs import OUTPUT_KINDS, ImageList, RunFolder, find_images
    from escnet_d2.outputs.annotations import EXPORT_FILE

    index, count = share_of_run()
    if len(args.input) == 1 and args.input[0].startswith("@"):
        images, num_ignored = ImageList(args.input[0][1:], index, count), 0
    else:
        own_folders = [Path(args.output, folder) for folder in OUTPUT_KINDS.values()]
        # Annotations have pictures too.
        own_folders += [file.parent for file in Path(args.output).glob(f"*/{EXPORT_FILE}")]
        images, num_ignored = find_images(args.input, recursive=args.recursive, exclude=own_folders)
        images = images[index::count]
    own_classes = Path(args.output, "classes.txt")
    if own_classes.exists() and Path(args.vocabulary).resolve() == own_classes.resolve():
        raise ValueError(
            f"--vocabulary {args.vocabulary} is what this run would overwrite with the names of "
            "its classes: copy it, or choose another --output."
        )

    import torch

    from escnet_d2.engine import OpenVocabPredictor
    from escnet_d2.engine.console import release_messages
    from escnet_d2.engine.model_description import describe_model, model_settings
    from escnet_d2.engine.prediction_run import segment_images
    from escnet_d2.engine.predictor import configured_vocabulary

    # What does not need the model is checked before it is built.
    name, cfg, options = model_config(args, allow_untrained=args.allow_untrained)
    batch_size = cfg.TEST.IMS_PER_BATCH if args.batch_size is None else args.batch_size
    if batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {batch_size}.")
    description = {
        "config": name,
        "opts": [str(item) for item in options],
        **describe_model(cfg),
    }
    folder = RunFolder(
        args.output,
        configured_vocabulary(cfg, args.vocabulary),
        description=description,
        settings=model_settings(cfg),
        kinds=[kind.strip() for kind in args.save.split(",")],
        opacity=args.opacity,
        side_by_side=args.side_by_side,
        min_score=args.confidence,
        note="" if description["weights"]["trained"] else "UNTRAINED",
        part=(index, count),
    )
    folder.check(overwrite=args.overwrite)
    # Without a checkpoint weights are random: the same in every run, so that --resume fits.
    torch.manual_seed(0)
    # Before --overwrite deletes anything, since it may fail.
    predictor = OpenVocabPredictor(cfg)
    with folder.open(resume=args.resume, overwrite=args.overwrite):
        release_messages()
        logger.info("Weights: %s", description["weights"]["description"])
        report = segment_images(
            images,
            predictor,
            folder,
            # Each process has seen them, one counts them.
            num_ignored=0 if index else num_ignored,
            batch_size=batch_size,
            progress=not index,
        )
    logger.info("%s. Results: %s", report, args.output)
    if report.state == "interrupted":
        return EXIT_INTERRUPTED
    wait_for_torchrun()
    return EXIT_SOME_FAILED if report.failures else EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; a usage error ends in one line of explanation.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code.
    """
    return run_in_console(run, argument_parser().parse_args(arguments))


def run_in_console(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Calls ``run(args)`` and returns its exit code, or that of the error that it reports."""
    from escnet_d2.engine.console import held_messages, report_error

    try:
        with held_messages():
            return run(args)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        # AssertionError is torch's answer to --device cuda where it was built without.
        report_error(error)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        if error.name not in _OPTIONAL:
            raise
        report_error(RuntimeError(f"needs a further package: pip install {error.name}"))
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted before the first image.\n")
        return EXIT_INTERRUPTED
