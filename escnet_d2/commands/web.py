r"""Serves a page that segments photos, at a local address; see docs/video_and_web.md.

::

    escnet-d2 web
    escnet-d2 web --weights model_base.pth --vocabulary "person, dog|puppy, grass, sky"

Without weights it shows the tiny model that comes with the package, on drawn scenes.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import segment

if TYPE_CHECKING:
    import numpy as np

_SHIPPED = "escnet_tiny_shapes"
_NUM_EXAMPLES = 4
_DRAWN_WORLD = (
    "This model comes with the package and knows a drawn world only: click a scene below. For your "
    "photos start `escnet-d2 web --weights ...`."
)
_USUAL_NAMES = "person, animal, plant, sky, grass, water, building, road"

logger = logging.getLogger(__name__)


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="A", help="address; 0.0.0.0: all (%(default)s)")
    add("--port", type=int, metavar="N", help="default: the first that is free from 7860 on")
    segment.add_vocabulary_argument(parser)
    segment.add_model_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C and returns the exit code.

    Raises:
        ModuleNotFoundError: Gradio is not installed.
        OSError: weights that are not there, or a port in use.
        ValueError: an argument with a wrong value.
        RuntimeError: weights that can't be loaded, or a device that is not there.
        AssertionError: a device that torch was built without.
    """
    # Before Gradio is imported: a local page asks nothing of other machines.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from escnet_d2.engine import OpenVocabPredictor
    from escnet_d2.engine.console import release_messages
    from escnet_d2.engine.model_description import describe_model
    from escnet_d2.web.page import build_page, serve_page
    from escnet_d2.web.segmenter import PhotoSegmenter

    # Who types "dog|puppy" into a page means both, whatever the method's release did.
    args.synonyms = args.synonyms or "max"
    is_shipped = not args.weights and not args.config_file
    if is_shipped:
        args.weights = _SHIPPED
    _, cfg, _ = segment.model_config(args)
    names = _as_text(args.vocabulary) if args.vocabulary else _USUAL_NAMES
    examples = _drawn_scenes() if is_shipped else []
    if examples and not args.vocabulary:
        names = examples[0][1]
    segmenter = PhotoSegmenter(OpenVocabPredictor(cfg))
    release_messages()
    logger.info("Weights: %s", describe_model(cfg)["weights"]["description"])
    page = build_page(
        segmenter,
        names=names,
        background=cfg.VOCABULARY.BACKGROUND,
        threshold=cfg.VOCABULARY.BACKGROUND_THRESHOLD,
        description=_DRAWN_WORLD if is_shipped else "",
        examples=examples,
    )
    try:
        serve_page(page, host=args.host, port=args.port)
    except OSError as error:
        if args.port is None:
            raise
        raise OSError(f"Port {args.port} of {args.host} can't be used: choose another.") from error
    return segment.EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; a usage error ends in one line of explanation.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code.
    """
    return segment.run_in_console(run, argument_parser().parse_args(arguments))


def _as_text(vocabulary: str) -> str:
    """Returns a vocabulary's names as people type them."""
    from escnet_d2.data import resolve_vocabulary

    resolved = resolve_vocabulary(vocabulary, synonyms="max")
    names: dict[int, list[str]] = {}
    for index, entry in zip(resolved.entry_classes, resolved.entries):
        names.setdefault(index, []).extend(entry)
    texts = ("|".join(of_class) for of_class in names.values())
    return ", ".join(f'"{text}"' if "," in text else text for text in texts)


def _drawn_scenes() -> list[tuple[np.ndarray, str]]:
    """Returns pictures that the shipped model knows, and the names of what is in them."""
    from escnet_d2.projects.shapes import SPLITS

    scenes = map(SPLITS["demo"].draw, range(_NUM_EXAMPLES))
    return [
        (scene.image, ", ".join([*dict.fromkeys(x.name for x in scene.things), *scene.grounds]))
        for scene in scenes
    ]
