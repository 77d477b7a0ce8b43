#!/usr/bin/env python
r"""Fits the adapter from CLIP's features to those that SAM's mask decoder reads, without labels.

    python tools/align_sam.py --config-file escnet_vitb16_384_bs4_80k \
        --dataset coco_2017_train_stuff_all_sem_seg --images 5000 --output sam_adapter.safetensors
    python train_net.py --config-file escnet_vitb16_384_bs4_80k \
        MODEL.SAM.ADAPTER sam_adapter.safetensors

CLIP and SAM of the configuration see the same images, each at its own resolution; a ridge
regression maps the one's features to the other's. Any photos will do: --input takes a folder.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from safetensors.torch import save_file
from torch import Tensor

from escnet_d2.engine import one_line_errors
from escnet_d2.engine.config_checks import check_data_is_there
from escnet_d2.engine.predictor import inference_config
from escnet_d2.io import atomic_path, read_image
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.modeling.sam import AdapterFit, SamAdapter, build_sam_image_encoder
from escnet_d2.modeling.sam.adapter import joined_features
from escnet_d2.modeling.windows import resize_image
from escnet_d2.outputs import find_images

# Of these images the second is kept apart, to measure on.
_HELD_OUT = 10
_LOG_PERIOD = 100

logger = logging.getLogger("align_sam")


@torch.no_grad()
def fit_adapter(cfg: CfgNode, images: Iterable[Tensor]) -> tuple[SamAdapter, dict[str, float]]:
    """Fits an adapter to what CLIP and SAM's image encoder make of the same images.

    Args:
        cfg: MODEL.CLIP and MODEL.SAM.WEIGHTS name the two.
        images: RGB, 0 to 255, (3, h, w); two or more.

    Returns:
        The adapter, and R2 of ``fitted`` images and of those ``held_out``, every tenth.

    Raises:
        ValueError: fewer than two images.
    """
    device = torch.device(cfg.MODEL.DEVICE)
    clip = ClipEncoder(cfg).eval().to(device)
    sam = build_sam_image_encoder(cfg.MODEL.SAM.WEIGHTS).to(device)
    mean, std = (values.view(3, 1, 1).to(device) for values in clip.pixel_statistics)
    size = (cfg.MODEL.CLIP.RESOLUTION, cfg.MODEL.CLIP.RESOLUTION)
    fits = {"fitted": AdapterFit(), "held_out": AdapterFit()}
    start, count = time.perf_counter(), 0
    for count, image in enumerate(images, start=1):
        pixels = image.to(device).float()
        # As the model squashes them in training.
        features = clip.encode_image(resize_image((pixels - mean) / std, size).unsqueeze(0))
        part = "held_out" if count % _HELD_OUT == 2 else "fitted"
        fits[part].add(features, sam(pixels.unsqueeze(0)))
        if count % _LOG_PERIOD == 0:
            logger.info("%d images, %.2f s each", count, (time.perf_counter() - start) / count)
    if count < 2:
        raise ValueError(f"Two images or more are needed, {count} were given.")
    weight = fits["fitted"].solve()
    adapter = SamAdapter(joined_features(features).shape[1], cfg.MODEL.SAM.EMBED_DIM)
    adapter.take(weight.cpu(), sam.norm.cpu())
    return adapter, {name: fit.explained(weight) for name, fit in fits.items()}


def read_images(args: argparse.Namespace) -> Iterator[Tensor]:
    """Reads the images that the arguments name, as :func:`fit_adapter` takes them."""
    if args.dataset:
        check_data_is_there("--dataset", [args.dataset])
        paths = [sample["file_name"] for sample in DatasetCatalog.get(args.dataset)]
    else:
        paths = [image.path for image in find_images(args.input, recursive=True)[0]]
    for path in itertools.islice(paths, args.images or None):
        yield torch.from_numpy(read_image(path)).permute(2, 0, 1)


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path or a name, of an ESC-Net")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", metavar="PATH", help="photos: folders, files, globs")
    source.add_argument("--dataset", metavar="NAME", help="a registered data set")
    add("--images", type=int, default=0, metavar="N", help="the first N; 0 for all (default)")
    add("--output", type=Path, required=True, metavar="FILE", help="a .safetensors file")
    add("--device", metavar="D", help="cpu, cuda, cuda:1; default: MODEL.DEVICE of the config")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Fits an adapter, writes it and prints how well it fits; see ``--help``."""
    args = argument_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        if args.images < 0:
            raise ValueError(f"--images must be 0 or more, got {args.images}.")
        cfg = inference_config(args.config_file, device=args.device, opts=args.opts)
        if cfg.MODEL.META_ARCHITECTURE != "ESCNet" or cfg.MODEL.SAM.WEIGHTS == "random":
            raise ValueError(
                f"{args.config_file} has no SAM to align: MODEL.META_ARCHITECTURE must be ESCNet, "
                "and MODEL.SAM.WEIGHTS pre-trained."
            )
        adapter, explained = fit_adapter(cfg, read_images(args))
        args.output.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.contiguous() for name, value in adapter.state_dict().items()}
        with atomic_path(args.output) as temporary:
            save_file(tensors, str(temporary), metadata={"format": "pt"})
    print(
        f"{args.output}: explains {explained['fitted']:.3f} of the variance of SAM's features, "
        f"{explained['held_out']:.3f} on images kept apart (1 is all of it)."
    )


if __name__ == "__main__":
    main()
