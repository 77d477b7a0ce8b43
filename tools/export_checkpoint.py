#!/usr/bin/env python
"""Writes a checkpoint in the layout of another program.

::

    python tools/export_checkpoint.py --to release output/run/model_final.pth cat_seg.pth
    python tools/export_checkpoint.py --to open_clip output/run/model_final.pth clip.pth

``release``: a model of CATSeg or SED as the program of its release loads it: the model's tensors
alone, in float32. ``open_clip``: the CLIP of a checkpoint of CATSeg, SED or ESC-Net, ours or the
releases', which open_clip loads, and MODEL.CLIP.WEIGHTS too. docs/baselines.md has more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from escnet_d2.engine import one_line_errors
from escnet_d2.weights import load_state_dict
from escnet_d2.weights.baseline_keys import open_clip_tensors, save_baseline_checkpoint


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", required=True, choices=("release", "open_clip"))
    parser.add_argument("checkpoint", type=Path, help="the file to read")
    parser.add_argument("output", type=Path, help="the file to write, which must not exist")
    return parser.parse_args(arguments)


def export(checkpoint: Path, output: Path, layout: str) -> str:
    """Writes the file.

    Args:
        checkpoint: the file to read.
        output: the file to write.
        layout: "release" or "open_clip".

    Returns:
        What was written, in words.

    Raises:
        FileExistsError: the output is there already.
        ValueError: the checkpoint is of another model.
        WeightsError: the checkpoint cannot be read.
    """
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent} is not a folder.")
    tensors = load_state_dict(checkpoint)
    if layout == "release":
        return f"{save_baseline_checkpoint(tensors, output)} for its release"
    if output.exists():
        raise FileExistsError(f"{output} is there already.")
    clip = {name: tensor.float().clone() for name, tensor in open_clip_tensors(tensors).items()}
    torch.save(clip, output)
    return f"CLIP for open_clip, {len(clip)} tensors"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = parse(arguments)
    with one_line_errors():
        try:
            written = export(args.checkpoint, args.output, args.to)
        except ValueError as error:
            raise ValueError(f"{args.checkpoint}: {error}") from error
    print(f"{args.output}: {written}")


if __name__ == "__main__":
    main()
