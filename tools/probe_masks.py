#!/usr/bin/env python
r"""Measures SAM-MI's masks: how many points they cost, what they find, and what merging does.

    python tools/probe_masks.py --config-file sam_mi_tiny_shapes --weights model_final.pth \
        --dataset shapes_val_sem_seg --images 50 --output masks.json

Rows are ways to choose points: the model's prompter, equally many at random and on a regular grid,
and SAM's dense grid. Regions are the connected regions of the label map. Masks are judged before
and after aggregation, images as the test mapper resizes them.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from segment_anything.utils.amg import build_point_grid
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.data import build_test_loader
from escnet_d2.data.region_masks import connected_regions, split_regions
from escnet_d2.engine import OpenVocabPredictor, one_line_errors
from escnet_d2.engine.config_checks import check_data_is_there
from escnet_d2.engine.model_description import require_weights
from escnet_d2.engine.predictor import inference_config
from escnet_d2.evaluation.tables import markdown_table
from escnet_d2.io import read_label_map, write_json
from escnet_d2.modeling import SAMMI
from escnet_d2.modeling.masks import MaskSource

# Chooses points in pixels, (P, 2), of an image of (height, width) and those of the prompter.
PointChoice = Callable[[tuple[int, int], np.ndarray], np.ndarray]
# Smallest region that is asked for, as a share of the image.
_MIN_REGION = 0.002


def random_points(size: tuple[int, int], prompter: np.ndarray) -> np.ndarray:
    """As many points as the prompter chose, anywhere; the same for the same image."""
    random = np.random.default_rng(len(prompter) + size[0] * size[1])
    return random.uniform(0, 1, (len(prompter), 2)) * np.array(size[::-1])


def uniform_points(size: tuple[int, int], prompter: np.ndarray) -> np.ndarray:
    """At most as many points as the prompter chose, on a regular grid."""
    return grid_points(size, int(len(prompter) ** 0.5))


def grid_points(size: tuple[int, int], side: int) -> np.ndarray:
    """The points of SAM's automatic generator."""
    return build_point_grid(side) * np.array(size[::-1])


class ProbedSource(MaskSource):
    """SAM at points that are replaced before it sees them."""

    needs_points = True

    def __init__(self, source: MaskSource) -> None:
        """Wraps the source of a model; :attr:`choose` changes nothing at first."""
        self.source = source
        self.choose: PointChoice = lambda size, prompter: prompter
        self.num_points = 0

    def __call__(self, image: Tensor, given: Tensor, points: np.ndarray | None) -> Tensor:
        """Finds masks at the replaced points."""
        points = self.choose(tuple(image.shape[1:]), points)
        self.num_points = len(points)
        return self.source(image, given, points)


class MaskProbe:
    """Judges masks of one model on one image after the other."""

    def __init__(self, model: SAMMI, masks: CfgNode) -> None:
        """Takes a model whose masks come from SAM at chosen points, in eval mode.

        ``masks`` is MODEL.MASKS of its configuration.
        """
        self.model = model
        self.points_per_batch = masks.POINTS_PER_BATCH
        self.source = ProbedSource(model.mask_finder.source)
        model.mask_finder.source = self.source
        self.choices: Mapping[str, PointChoice] = {
            "prompter": lambda size, prompter: prompter,
            "random": random_points,
            "uniform": uniform_points,
            "dense grid": lambda size, prompter: grid_points(size, masks.GRID_SIDE),
        }

    def measure(self, inputs: dict, labels: np.ndarray) -> dict[str, dict[str, float]]:
        """Measures each choice of points.

        Args:
            inputs: one item of a batch, with its ``vocabulary``.
            labels: the truth, integers (h, w).

        Returns:
            By choice: ``points``, ``decoder calls``, ``seconds`` of CLIP, SAM and merging, and what
            :func:`judge` says of the ``found`` and the ``merged`` masks.
        """
        regions = torch.from_numpy(split_regions(connected_regions(labels)))
        regions = regions[regions.flatten(1).float().mean(dim=1) >= _MIN_REGION]
        rows = {}
        for name, choose in self.choices.items():
            self.source.choose = choose
            start = time.perf_counter()
            found, merged = self.model.propose(inputs)
            rows[name] = {
                "points": self.source.num_points,
                "decoder calls": math.ceil(self.source.num_points / self.points_per_batch),
                "seconds": time.perf_counter() - start,
                **{f"{key}, found": value for key, value in judge(found.cpu(), regions).items()},
                **{f"{key}, merged": value for key, value in judge(merged.cpu(), regions).items()},
            }
        return rows


def judge(masks: Tensor, regions: Tensor) -> dict[str, float]:
    """Compares masks with true regions.

    Args:
        masks: bool (M, h, w).
        regions: bool (R, H, W).

    Returns:
        ``masks``, their number; ``recall 50`` and ``recall 75``, shares of the regions that a mask
        has an IoU of that many percent with; ``masks per region``, how many lie mostly within one,
        and ``covered``, the share of the regions of which one mask holds 80 %.
    """
    size = regions.shape[1:]
    if not len(masks):
        return dict.fromkeys(("masks", "recall 50", "recall 75", "masks per region", "covered"), 0)
    masks = F.interpolate(masks.float().unsqueeze(1), size=size, mode="nearest-exact").flatten(1)
    regions = regions.float().flatten(1)
    overlap = regions @ masks.t()
    area, mask_area = regions.sum(dim=1, keepdim=True), masks.sum(dim=1)
    best = (overlap / (area + mask_area - overlap)).amax(dim=1)
    return {
        "masks": len(masks),
        "recall 50": float((best > 0.5).float().mean()),
        "recall 75": float((best > 0.75).float().mean()),
        "masks per region": float((overlap > 0.5 * mask_area).sum(dim=1).float().mean()),
        "covered": float(((overlap / area).amax(dim=1) > 0.8).float().mean()),
    }


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path or a name, of a SAMMI")
    add("--weights", metavar="FILE", help="checkpoint; default: MODEL.WEIGHTS of the config")
    add("--dataset", required=True, metavar="NAME", help="a registered data set with label maps")
    add("--images", type=int, default=0, metavar="N", help="the first N; 0 for all (default)")
    add("--output", type=Path, required=True, metavar="FILE", help="JSON file of the numbers")
    add("--device", metavar="D", help="cpu, cuda, cuda:1; default: MODEL.DEVICE of the config")
    add("--allow-untrained", action="store_true", help="points of CLIP's own correlation")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the masks of a model, writes the numbers and prints them as a table."""
    args = argument_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with one_line_errors():
        if args.images < 0:
            raise ValueError(f"--images must be 0 or more, got {args.images}.")
        cfg = inference_config(
            args.config_file, weights=args.weights, device=args.device, opts=args.opts
        )
        if cfg.MODEL.META_ARCHITECTURE != "SAMMI" or cfg.MODEL.MASKS.SOURCE != "sam":
            raise ValueError(
                f"{args.config_file} has no point prompter: MODEL.META_ARCHITECTURE must be SAMMI, "
                "and MODEL.MASKS.SOURCE sam."
            )
        require_weights(cfg, allow_untrained=args.allow_untrained)
        check_data_is_there("--dataset", [args.dataset])
        probe = MaskProbe(OpenVocabPredictor(cfg).model, cfg.MODEL.MASKS)
        samples = itertools.chain.from_iterable(build_test_loader(cfg, args.dataset))
        measured = [
            probe.measure(sample, read_label_map(sample["sem_seg_file_name"]))
            for sample in itertools.islice(samples, args.images or None)
        ]
        means = {
            name: {key: float(np.mean([row[name][key] for row in measured])) for key in columns}
            for name, columns in measured[0].items()
        }
        write_json(args.output, {"dataset": args.dataset, "images": args.images, "points": means})
    columns = list(means["prompter"])
    rows = [[name, *(f"{row[key]:.2f}" for key in columns)] for name, row in means.items()]
    print(markdown_table(["points by", *columns], rows))


if __name__ == "__main__":
    main()
