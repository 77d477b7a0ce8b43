r"""Segments a video, camera or stream by class names into an MP4 file; see docs/video_and_web.md.

::

    escnet-d2 video --weights model_base.pth --input clip.mp4 --output overlay.mp4 \
        --vocabulary "person, road, car|van, tree, sky"
    escnet-d2 video --weights model_base.pth --input 0 --output me.mp4 --vocabulary "person, cup"
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from . import segment

logger = logging.getLogger(__name__)


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 done, 1 the video broke off, 2 usage error, 130 interrupted (Ctrl-C); "
        "the output plays in any case.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--input",
        required=True,
        metavar="SOURCE",
        help="video file, camera (0), or URL of a stream",
    )
    add("--output", required=True, metavar="FILE", help="overlay, ends in .mp4")
    segment.add_vocabulary_argument(parser, required=True)
    add("--labels", metavar="DIR", help="write label PNGs there too, a frame each")
    add("--overwrite", action="store_true", help="replace what is there")
    add("--every", type=int, default=1, metavar="N", help="segment each N-th frame (%(default)s)")
    add(
        "--smoothing",
        type=float,
        default=0.0,
        metavar="W",
        help="weight of earlier frames in the scores, 0 to below 1: less flicker, later changes "
        "(%(default)s)",
    )
    segment.add_drawing_arguments(parser)
    segment.add_model_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Segments what the arguments ask for and returns the exit code.

    Raises:
        OSError: a file, camera or stream is not usable.
        ValueError: an argument with a wrong value, or an input that is not a video.
        RuntimeError: weights that can't be loaded, or a device that is not there.
        AssertionError: a device that torch was built without.
    """
    output, labels = Path(args.output), Path(args.labels) if args.labels else None
    _check_outputs(args, output, labels)

    from escnet_d2.engine import OpenVocabPredictor
    from escnet_d2.engine.console import release_messages, report_error
    from escnet_d2.engine.model_description import describe_model
    from escnet_d2.engine.video_run import segment_video
    from escnet_d2.io import VideoReader

    # What does not need the model is checked before it is built.
    _, cfg, _ = segment.model_config(args)
    reader = VideoReader(args.input, every=args.every)
    predictor = OpenVocabPredictor(cfg, vocabulary=args.vocabulary)
    release_messages()
    height, width = reader.size
    logger.info("Weights: %s", describe_model(cfg)["weights"]["description"])
    logger.info("%s: %d x %d, %.4g frames per second", reader.name, width, height, reader.rate)
    report = segment_video(
        reader,
        predictor,
        output,
        labels=labels,
        smoothing=args.smoothing,
        min_score=args.confidence,
        opacity=args.opacity,
        side_by_side=args.side_by_side,
    )
    logger.info("%s: %s", report, output)
    if report.error:
        report_error(report.error)
        return segment.EXIT_SOME_FAILED
    return segment.EXIT_INTERRUPTED if report.is_interrupted else segment.EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; a usage error ends in one line of explanation.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code.
    """
    return segment.run_in_console(run, argument_parser().parse_args(arguments))


def _check_outputs(args: argparse.Namespace, output: Path, labels: Path | None) -> None:
    if output.suffix.lower() != ".mp4":
        raise ValueError(f"--output {output} must end in .mp4.")
    for option, value in (("--opacity", args.opacity), ("--confidence", args.confidence)):
        if not 0 <= value <= 1:
            raise ValueError(f"{option} must be from 0 to 1, got {value}.")
    if not 0 <= args.smoothing < 1:
        raise ValueError(f"--smoothing must be at least 0 and below 1, got {args.smoothing}.")
    if output.exists() and output.resolve() == Path(args.input).resolve():
        raise ValueError(f"--output {output} is the input.")
    for path in filter(None, (output, labels)):
        is_used = any(path.iterdir()) if path.is_dir() else path.exists()
        if is_used and not args.overwrite:
            raise FileExistsError(f"{path} exists: choose another name, or --overwrite.")
