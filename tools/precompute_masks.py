#!/usr/bin/env python
r"""Writes SAM's masks of images to files, from which SAM-MI trains without running SAM.

    python tools/precompute_masks.py --config-file sam_mi_vitb16_384_bs4_80k \
        --dataset coco_2017_train_stuff_all_sem_seg --output masks/coco_train
    torchrun --nproc-per-node 8 tools/precompute_masks.py ...   # each process takes its share
    python train_net.py --config-file sam_mi_vitb16_384_bs4_80k \
        MODEL.MASKS.SOURCE file MODEL.MASKS.DIR masks/coco_train

SAM looks at its dense grid (MODEL.MASKS.GRID_SIDE). Images whose file is there are skipped, so that
a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from tqdm import tqdm

from escnet_d2.data.region_masks import write_masks
from escnet_d2.engine import one_line_errors
from escnet_d2.engine.config_checks import check_data_is_there
from escnet_d2.engine.launch import share_of_run
from escnet_d2.engine.predictor import inference_config
from escnet_d2.io import read_image
from escnet_d2.modeling.masks import MASK_SOURCES
from escnet_d2.outputs import find_images


def mask_files(images: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Says which file gets the masks of each image.

    Raises:
        ValueError: two images would share one.
    """
    files: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for image in images:
        file = files[image] = output / f"{image.stem}.json"
        if owners.setdefault(file, image) != image:
            raise ValueError(
                f"{owners[file]} and {image} would share {file}: give them an --output each."
            )
    return files


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path or a name, with MODEL.MASKS")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", metavar="PATH", help="photos: folders, files, globs")
    source.add_argument("--dataset", metavar="NAME", help="a registered data set")
    add("--output", type=Path, required=True, metavar="DIR", help="gets NAME.json of each image")
    add("--device", metavar="D", help="cpu, cuda, cuda:1; default: MODEL.DEVICE of the config")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the masks of all images, or of one process's share of them."""
    args = argument_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        index, count = share_of_run()
        cfg = inference_config(args.config_file, device=args.device, opts=args.opts)
        if args.dataset:
            check_data_is_there("--dataset", [args.dataset])
            images = [Path(sample["file_name"]) for sample in DatasetCatalog.get(args.dataset)]
        else:
            images = [image.path for image in find_images(args.input, recursive=True)[0]]
        files = mask_files(images, args.output)
        args.output.mkdir(parents=True, exist_ok=True)
        todo = [image for image in images[index::count] if not files[image].exists()]
        source = MASK_SOURCES["grid"](cfg)
        for image in tqdm(todo, unit="image", disable=index > 0):
            pixels = torch.from_numpy(read_image(image)).permute(2, 0, 1).to(cfg.MODEL.DEVICE)
            masks = source(pixels, pixels[:0].bool(), None)
            write_masks(files[image], masks.cpu().numpy(), image_name=image.name)
    print(f"{args.output}: {len(todo)} of {len(images)} files written.")


if __name__ == "__main__":
    main()
