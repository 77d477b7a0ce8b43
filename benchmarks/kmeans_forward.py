"""What ESC-Net's forward has to do with k-means, for tools/benchmark_kmeans.py."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from escnet_d2 import OpenVocabPredictor
from escnet_d2.layers import masked_kmeans
from escnet_d2.layers.kmeans_reference import kmeans_reference
from escnet_d2.layers.masked_kmeans import Clusters
from escnet_d2.modeling.escnet import pseudo_prompts
from escnet_d2.modeling.escnet.pseudo_prompts import PseudoPromptGenerator
from escnet_d2.outputs import find_images

DEFAULT_CONFIG = "escnet_vitb16_384_quick"
# No files: what is timed does not depend on the values of the weights.
RANDOM_WEIGHTS = (
    "MODEL.WEIGHTS",
    "",
    "MODEL.CLIP.WEIGHTS",
    "random",
    "MODEL.SAM.WEIGHTS",
    "random",
)
TURNS = 3


def generators(model: nn.Module) -> list[PseudoPromptGenerator]:
    """All pseudo prompt generators of a model."""
    found = [m for m in model.modules() if isinstance(m, PseudoPromptGenerator)]
    if not found:
        raise ValueError("This model has no pseudo prompt generator: --config-file of ESC-Net.")
    return found


def maps_of_model(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Scores and masks (M, H, W) that the generators of a trained model get, where not empty.

    Args:
        args: ``config_file`` (by default named like the weights), ``weights``, ``resolution``,
            ``images`` and ``vocabulary`` of the command line.

    Raises:
        ValueError: no class has foreground in any image, or the maps differ in size.
    """
    predictor = OpenVocabPredictor(
        args.config_file or args.weights,
        weights=args.weights,
        vocabulary=args.vocabulary,
        device="cpu",
        opts=("MODEL.CLIP.RESOLUTION", args.resolution),
    )
    scores, masks = [], []

    def keep(module: PseudoPromptGenerator, inputs: tuple[Tensor]) -> None:
        probability = module.probability(inputs[0]).flatten(0, 1)
        foreground = probability >= module.alpha
        busy = foreground.flatten(1).any(dim=1)
        scores.append(probability[busy])
        masks.append(foreground[busy])

    for generator in generators(predictor.model):
        generator.register_forward_pre_hook(keep)
    for image in find_images([args.images]).images:
        predictor(image.path)
    if not sum(map(len, masks)):
        raise ValueError(f"No class of {args.vocabulary!r} has foreground in {args.images}.")
    return torch.cat(scores), torch.cat(masks)


@contextmanager
def timed(function: Callable[..., Clusters]) -> Iterator[list[float]]:
    """Lets the generators call a function, and collects the seconds of its calls."""
    seconds: list[float] = []

    def call(*arguments: object) -> Clusters:
        start = time.process_time()
        result = Clusters(*function(*arguments))
        seconds.append(time.process_time() - start)
        return result

    with mock.patch.object(pseudo_prompts, "masked_kmeans", call):
        yield seconds


def forward_share(
    args: argparse.Namespace, drawn_maps: Callable[[int, int], tuple[Tensor, Tensor]]
) -> list[str]:
    """CPU seconds of a forward with the torch code and with the operator, as Markdown.

    The model has random weights, whose class maps mean nothing: the generators get drawn ones, with
    foreground in ``--present`` of ``--classes`` classes.

    Args:
        args: of the command line.
        drawn_maps: makes scores and masks from their number and side.
    """
    config = args.config_file or DEFAULT_CONFIG
    names = [f"class {i}" for i in range(args.classes)]
    predictor = OpenVocabPredictor(config, vocabulary=names, device="cpu", opts=RANDOM_WEIGHTS)
    for generator in generators(predictor.model):
        _feed(generator, args.present, drawn_maps)
    image = torch.randint(256, (384, 512, 3), dtype=torch.uint8).numpy()
    predictor(image)  # text embeddings, memory
    ways = {"torch code": kmeans_reference, "operator": masked_kmeans}
    totals: dict[str, list[float]] = {name: [] for name in ways}
    parts: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            with timed(way) as seconds:
                start = time.process_time()
                predictor(image)
                totals[name].append(time.process_time() - start)
            parts[name].append(sum(seconds))
    lines = [
        f"{config}, random weights, one image, {args.classes} classes of which {args.present} have "
        f"foreground (drawn maps); one thread, CPU time, median of {TURNS}.",
        "",
        "| k-means by | forward, s | k-means in it, ms | part |",
        "|---|---:|---:|---:|",
    ]
    for name in ways:
        total, part = statistics.median(totals[name]), statistics.median(parts[name])
        lines.append(f"| {name} | {total:.2f} | {1e3 * part:.2f} | {100 * part / total:.3f} % |")
    return lines


def _feed(
    generator: PseudoPromptGenerator,
    present: int,
    drawn_maps: Callable[[int, int], tuple[Tensor, Tensor]],
) -> None:
    """Replaces the probabilities that a generator computes by drawn ones."""

    def probability(logits: Tensor) -> Tensor:
        scores, mask = drawn_maps(present, logits.shape[-1])
        drawn = torch.zeros_like(logits, dtype=torch.float32)
        drawn[0, :present] = (0.5 + 0.05 * scores).clamp(generator.alpha, 1) * mask
        return drawn

    generator.probability = probability
