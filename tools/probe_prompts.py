#!/usr/bin/env python
r"""Measures what ESC-Net's prompts are worth: its mIoU with the truth, nonsense or nothing instead.

    python tools/probe_prompts.py --config-file escnet_tiny_shapes --weights escnet_tiny_shapes \
        --dataset shapes_val_sem_seg --images 100 --output probe.json

A SAM block whose prompts can be replaced without any change to the answer does nothing, whatever
the training loss says: probe a short run before a long one is paid for. Images are seen as a whole
at the resolution of training, as in no benchmark with sliding windows. A model without SAM gets one
score, which ``no_prompts`` of a model with it should not be far below.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.data import build_test_loader
from escnet_d2.data.region_masks import connected_regions
from escnet_d2.engine import OpenVocabPredictor, one_line_errors
from escnet_d2.engine.config_checks import check_data_is_there
from escnet_d2.engine.model_description import require_weights
from escnet_d2.engine.predictor import inference_config
from escnet_d2.evaluation.confusion import ClassCounts, confusion_matrix
from escnet_d2.evaluation.tables import markdown_table
from escnet_d2.io import read_label_map, write_json
from escnet_d2.layers.class_subsets import restore_classes
from escnet_d2.modeling import ESCNet
from escnet_d2.modeling.class_scores import class_scores, label_map
from escnet_d2.modeling.escnet import PseudoPromptGenerator
from escnet_d2.modeling.sam import SamBlock, SamImageEncoder, build_sam_image_encoder
from escnet_d2.structures import PseudoPrompts

PROBES = {
    "as_trained": "its own pseudo prompts",
    "class_blind_truth": "its own; each of SAM's masks becomes the true region that most of the "
    "points hit, whatever the class",
    "ground_truth_prompts": "the true regions of the present classes that are prompted",
    "permuted_prompts": "each prompted class has the prompts of another one",
    "no_prompts": "no class has any",
    "identity": "SAM's blocks left out",
}
# Smallest true region whose mask is asked for, in patches.
_MIN_PATCHES = 4


class ProbedGenerator(nn.Module):
    """A prompt generator whose prompts are replaced before SAM sees them."""

    def __init__(self, generator: PseudoPromptGenerator) -> None:
        """Wraps the generator of a model; :attr:`replace` changes nothing at first."""
        super().__init__()
        self.generator = generator
        self.replace: Callable[[PseudoPrompts], PseudoPrompts] = lambda prompts: prompts

    def forward(self, logits: Tensor, prompted: Tensor | None = None) -> PseudoPrompts:
        """Returns the replaced prompts of class maps (1, K, H, W)."""
        return self.replace(self.generator(logits, prompted))


class PromptProbe:
    """Segments images with one replacement of the prompts after the other."""

    def __init__(self, model: ESCNet) -> None:
        """Takes a model in eval mode; its prompt generator is wrapped."""
        self.model = model
        self.generator = ProbedGenerator(model.sem_seg_head.prompt_generator)
        model.sem_seg_head.prompt_generator = self.generator

    @torch.inference_mode()
    def segment(self, inputs: dict, labels: np.ndarray, probe: str) -> np.ndarray:
        """Segments one image.

        Args:
            inputs: as one item of a batch, with its ``vocabulary``.
            labels: the truth, integers (h, w); all values but 0 to K - 1 are unlabeled.
            probe: one of ``PROBES``.

        Returns:
            Predicted classes, integers (h, w).
        """
        vocabulary = inputs["vocabulary"]
        self.generator.replace = lambda prompts: prompts
        output = self.model.inspect(inputs)
        # Which classes are computed does not depend on the prompts.
        classes = [vocabulary.entry_classes[entry] for entry in output.entries[0].tolist()]
        replacements = {
            "ground_truth_prompts": lambda own: self._correct(own, labels, classes),
            "permuted_prompts": permute,
            "no_prompts": remove,
        }
        if probe in replacements:
            self.generator.replace = replacements[probe]
            output = self.model.inspect(inputs)
        elif probe == "class_blind_truth":
            regions = connected_regions(labels)
            with replaced_sam(self.model, lambda sam: TrueMasks(sam, regions)):
                output = self.model.inspect(inputs)
        elif probe == "identity":
            with replaced_sam(self.model, lambda sam: None):
                output = self.model.inspect(inputs)
        logits = restore_classes(output.logits, output.entries, len(vocabulary.entries))
        scores = class_scores(logits, vocabulary, self.model.loss)[0]
        return label_map(scores, labels.shape)[0].cpu().numpy()

    def _correct(
        self, own: PseudoPrompts, labels: np.ndarray, classes: Sequence[int]
    ) -> PseudoPrompts:
        """Gives each prompted class that is in the image its true regions as prompts."""
        regions = connected_regions(labels)
        present = [np.unique(regions[labels == index]).tolist() for index in classes]
        true = self._prompt_regions(own, regions, present)
        return choose(own.has_foreground & true.has_foreground, true, own)

    def _prompt_regions(
        self, own: PseudoPrompts, regions: np.ndarray, chosen: Sequence[Sequence[int]]
    ) -> PseudoPrompts:
        """Makes a point and a mask of each chosen region of each class, the largest N of them."""
        number = own.points.shape[2]
        prompts = remove(own)
        for index, numbers in enumerate(chosen):
            if not len(numbers):
                continue
            masks = torch.from_numpy(np.stack([regions == n for n in numbers]))
            coverage = self._coverage(masks, own)[0]
            coverage = coverage[coverage.sum(dim=(1, 2)).argsort(descending=True)[:number]]
            share, region = coverage.max(dim=0)
            inside = share >= self.generator.generator.alpha
            prompts.masks[0, index] = share * inside
            prompts.regions[0, index] = torch.where(inside, region, -1).to(torch.int8)
            for n, cover in enumerate(coverage):
                if (inside & (region == n)).any():
                    best = int((cover * (region == n)).argmax())
                    width = cover.shape[1]
                    prompts.points[0, index, n] = cover.new_tensor([best % width, best // width])
                    prompts.point_labels[0, index, n] = 1
        return prompts

    def _coverage(self, masks: Tensor, like: PseudoPrompts) -> Tensor:
        """Averages masks (K, h, w) over the patches, (1, K, H, W)."""
        grid = like.masks.shape[-2:]
        return F.adaptive_avg_pool2d(masks.float().to(like.masks.device), grid).unsqueeze(0)


class MaskProbe:
    """Measures the masks of SAM's own head for true prompts, on ESC-Net's features and on SAM's."""

    def __init__(self, model: ESCNet, encoder: SamImageEncoder) -> None:
        """Takes a model with SAM blocks, and the image encoder of the SAM they came from."""
        self.model = model
        # As it is: PromptProbe puts another one in its place.
        self.generator = model.sem_seg_head.prompt_generator
        self.encoder = encoder.to(model.device)

    @torch.inference_mode()
    def measure(self, inputs: dict, labels: np.ndarray) -> dict[str, list[float]]:
        """Asks for the mask of each true region of one image, by points and by a mask.

        Args:
            inputs: as one item of a batch.
            labels: the truth, integers (h, w).

        Returns:
            IoU of each region's mask, ``"<features>, <prompt>"`` by name.
        """
        image = inputs["image"].to(self.model.device).unsqueeze(0)
        features = self.model.encode(inputs["image"])
        own = self.encoder(image)
        norm = self.encoder.norm
        embeddings = {
            "adapted": self.model.sem_seg_head.sam_adapter(features),
            "SAM's own": own * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1),
        }
        regions = connected_regions(labels)
        masks = torch.from_numpy(np.stack([regions == n for n in np.unique(regions)])).float()
        return {
            f"{name}, {kind}": self._ious(embedding, masks.to(image.device), kind)
            for name, embedding in embeddings.items()
            for kind in ("points", "mask")
        }

    def _ious(self, embedding: Tensor, masks: Tensor, kind: str) -> list[float]:
        grid = embedding.shape[-2:]
        coverage = F.adaptive_avg_pool2d(masks, grid)
        large = coverage.sum(dim=(1, 2)) >= _MIN_PATCHES
        masks, coverage = masks[large], coverage[large]
        prompts = self.generator.from_probability(coverage.unsqueeze(0))
        block = self.model.sem_seg_head.blocks[0].sam
        used = block.use_points, block.use_masks, block.find_masks
        block.use_points, block.use_masks, block.find_masks = kind == "points", kind == "mask", True
        try:
            _, logits = block(
                embedding,
                block.image_position(*grid),
                prompts.points[0],
                prompts.point_labels[0],
                prompts.masks[0],
            )
        finally:
            block.use_points, block.use_masks, block.find_masks = used
        found = F.interpolate(logits.unsqueeze(1), size=masks.shape[-2:], mode="bilinear") > 0
        found, true = found.squeeze(1), masks > 0
        union = (found | true).sum(dim=(1, 2))
        return ((found & true).sum(dim=(1, 2)) / union).tolist()


def choose(where: Tensor, first: PseudoPrompts, second: PseudoPrompts) -> PseudoPrompts:
    """Takes the prompts of ``first`` for the classes in ``where``, bool (1, K), else ``second``."""
    return PseudoPrompts(
        **{
            field.name: torch.where(
                where.view(*where.shape, *[1] * (getattr(first, field.name).dim() - 2)),
                getattr(first, field.name),
                getattr(second, field.name),
            )
            for field in dataclasses.fields(PseudoPrompts)
        }
    )


def permute(own: PseudoPrompts) -> PseudoPrompts:
    """Gives each prompted class the prompts of the next one that is prompted."""
    prompted = own.has_foreground[0].nonzero().squeeze(1)
    source = torch.arange(own.masks.shape[1], device=own.masks.device)
    source[prompted] = prompted.roll(1)
    return PseudoPrompts(
        **{f.name: getattr(own, f.name)[:, source] for f in dataclasses.fields(PseudoPrompts)}
    )


def remove(own: PseudoPrompts) -> PseudoPrompts:
    """Takes all points and masks away."""
    return PseudoPrompts(
        points=torch.zeros_like(own.points),
        point_labels=torch.full_like(own.point_labels, -1),
        masks=torch.zeros_like(own.masks),
        regions=torch.full_like(own.regions, -1),
    )


class TrueMasks(nn.Module):
    """A SAM block whose masks are replaced by the true regions that most of the points hit."""

    def __init__(self, sam: SamBlock, regions: np.ndarray) -> None:
        """Wraps a block for one image with these regions, integers (h, w)."""
        super().__init__()
        self.sam = sam
        self.embed_dim, self.image_position = sam.embed_dim, sam.image_position
        self.regions = regions

    def forward(
        self, image: Tensor, image_pe: Tensor, points: Tensor, point_labels: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns SAM's features, and logits (M, 4 H, 4 W) of the true masks."""
        refined, _ = self.sam(image, image_pe, points, point_labels, masks)
        # Pixels at the centers of the patches that the points are in.
        scale = np.array(self.regions.shape)[::-1] / np.array(masks.shape[-2:])[::-1]
        columns, rows = ((points.cpu().numpy() + 0.5) * scale).astype(int).transpose(2, 0, 1)
        hits = zip(self.regions[rows, columns], point_labels.cpu().numpy() == 1)
        most = [np.bincount(hit[valid]).argmax() if valid.any() else -1 for hit, valid in hits]
        true = torch.from_numpy(np.stack([self.regions == region for region in most])).float()
        size = [4 * side for side in masks.shape[-2:]]
        shares = F.adaptive_avg_pool2d(true.to(masks.device), size)
        return refined, shares - 0.5


@contextmanager
def replaced_sam(model: ESCNet, replace: Callable[[SamBlock], nn.Module | None]) -> Iterator[None]:
    """Puts something else in the place of SAM in every ESC-Block for a while."""
    blocks = model.sem_seg_head.blocks
    kept = [block.sam for block in blocks]
    try:
        for block in blocks:
            block.sam = replace(block.sam)
        yield
    finally:
        for block, sam in zip(blocks, kept):
            block.sam = sam


def probe_dataset(
    cfg: CfgNode, model: ESCNet, dataset: str, limit: int
) -> dict[str, dict[str, float]]:
    """Scores every probe on the first images of a data set.

    Args:
        cfg: the configuration of ``model``.
        model: in eval mode; without SAM blocks only ``as_trained`` is scored, by which to read
            ``no_prompts`` of the model that has them.
        dataset: a registered name.
        limit: images, 0 for all.

    Returns:
        ``mIoU`` of each of ``PROBES`` in percent, over the classes that are there or predicted, and
        ``mask_iou`` of :class:`MaskProbe`, 0 to 1, where MODEL.SAM.WEIGHTS are at hand.
    """
    mask_probe, probes = None, PROBES
    if not cfg.MODEL.ESCNET.USE_SAM:
        probes = ["as_trained"]
    elif cfg.MODEL.SAM.WEIGHTS != "random":
        mask_probe = MaskProbe(model, build_sam_image_encoder(cfg.MODEL.SAM.WEIGHTS))
    probe = PromptProbe(model)
    ignore_label = MetadataCatalog.get(dataset).ignore_label
    counts: dict[str, ClassCounts] = {}
    ious: dict[str, list[float]] = defaultdict(list)
    samples = itertools.chain.from_iterable(build_test_loader(cfg, dataset))
    for sample in itertools.islice(samples, limit or None):
        number = sample["vocabulary"].num_classes
        labels = read_label_map(sample["sem_seg_file_name"]).astype(np.int64)
        labels[labels == ignore_label] = -1
        for name in probes:
            matrix = confusion_matrix(probe.segment(sample, labels, name), labels, number)
            found = ClassCounts.from_confusion(matrix)
            counts[name] = counts.get(name, ClassCounts.zeros(number)) + found
        if mask_probe is not None:
            for name, values in mask_probe.measure(sample, labels).items():
                ious[name] += values
    return {
        "mIoU": {name: mean_iou(total) for name, total in counts.items()},
        "mask_iou": {name: float(np.mean(values)) for name, values in ious.items()},
    }


def mean_iou(counts: ClassCounts) -> float:
    """Averages the IoU of the classes that have a labeled or predicted pixel, in percent."""
    seen = counts.union > 0
    return 100 * float((counts.intersection[seen] / counts.union[seen]).mean())


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path or a name, of an ESC-Net")
    add("--weights", metavar="FILE", help="checkpoint; default: MODEL.WEIGHTS of the config")
    add("--dataset", required=True, metavar="NAME", help="a registered data set with label maps")
    add("--images", type=int, default=0, metavar="N", help="the first N; 0 for all (default)")
    add("--output", type=Path, required=True, metavar="FILE", help="JSON file of the scores")
    add("--device", metavar="D", help="cpu, cuda, cuda:1; default: MODEL.DEVICE of the config")
    add("--allow-untrained", action="store_true", help="probe random weights, for trials")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Probes a model, writes the scores and prints them as a table; see ``--help``."""
    args = argument_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with one_line_errors():
        if args.images < 0:
            raise ValueError(f"--images must be 0 or more, got {args.images}.")
        cfg = inference_config(
            args.config_file, weights=args.weights, device=args.device, opts=args.opts
        )
        if cfg.MODEL.META_ARCHITECTURE != "ESCNet":
            raise ValueError(
                f"{args.config_file} has no prompts to probe: "
                "MODEL.META_ARCHITECTURE must be ESCNet."
            )
        require_weights(cfg, allow_untrained=args.allow_untrained)
        check_data_is_there("--dataset", [args.dataset])
        model = OpenVocabPredictor(cfg).model
        scores = probe_dataset(cfg, model, args.dataset, args.images)
        write_json(args.output, {"dataset": args.dataset, "images": args.images, **scores})
    rows = [[name, PROBES[name], f"{score:.1f}"] for name, score in scores["mIoU"].items()]
    print(markdown_table(["probe", "prompts", "mIoU"], rows))
    if scores["mask_iou"]:
        rows = [[name, f"{iou:.2f}"] for name, iou in scores["mask_iou"].items()]
        print("\n" + markdown_table(["features and prompt", "IoU of SAM's masks"], rows))


if __name__ == "__main__":
    main()
