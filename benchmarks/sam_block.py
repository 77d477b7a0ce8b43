#!/usr/bin/env python
"""Times the SAM block against the same layers called as segment_anything's own modules.

Both run in turn, so that a machine busy with other work slows both. Prints a Markdown table:

    python benchmarks/sam_block.py                             # official sizes, one CPU thread
    python benchmarks/sam_block.py --sets 20 --device cuda --dtype float16

Every prompt set has its points, by default one, as ESC-Net's have, and with --masks a mask as well.
With another dtype than float32, both run under autocast. The default takes about 90 seconds on a
CPU, and 4 GB of memory.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.modeling.sam import SamBlock
from escnet_d2.modeling.sam.sam_block import pseudo_mask_logits

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PASSES = ("inference", "training")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parse(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    block = _block(args).to(args.device)
    device = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(
        f"{args.grid}x{args.grid} patches, {args.channels} channels, {args.heads} heads, "
        f"{args.points} points {'and a mask ' * args.masks}per prompt set, {args.dtype}; "
        f"{device}, {args.threads} CPU threads, torch {torch.__version__}, {datetime.date.today()}"
    )
    _check_equal(block, args)
    print("| prompt sets | pass | segment_anything, ms | ours, ms | times faster | repeats |")
    print("|---:|---|---:|---:|---:|---:|")
    for sets in args.sets:
        for name in args.passes:
            theirs, ours = _compare(block, sets, name, args)
            ratios = sorted(a / b for a, b in zip(theirs, ours))
            print(
                f"| {sets} | {name} | {1e3 * statistics.median(theirs):.1f} "
                f"| {1e3 * statistics.median(ours):.1f} "
                f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
                f"| {len(ratios)} |",
                flush=True,
            )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, nargs="+", default=[1, 20, 171], help="prompt sets")
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES)
    parser.add_argument("--grid", type=int, default=24, help="patches along each side")
    parser.add_argument("--points", type=int, default=1, help="points per prompt set")
    parser.add_argument("--masks", action="store_true", help="give each set a mask as well")
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--seconds", type=float, default=5, help="time per row, for 3 to 50 repeats"
    )
    return parser.parse_args(arguments)


def _block(args: argparse.Namespace) -> SamBlock:
    grid = (args.grid, args.grid)
    return SamBlock(
        # With the grid as nominal image size, SAM's frame of the coordinates is that of patches.
        prompt_encoder=PromptEncoder(
            embed_dim=args.channels,
            image_embedding_size=grid,
            input_image_size=grid,
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=args.channels,
            transformer=TwoWayTransformer(
                depth=2,
                embedding_dim=args.channels,
                num_heads=args.heads,
                mlp_dim=8 * args.channels,
            ),
        ),
        use_masks=args.masks,
    )


def _by_modules(
    block: SamBlock, image: Tensor, image_pe: Tensor, points: Tensor, labels: Tensor, masks: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns what ``block`` does, all by calls of SAM's modules."""
    encoder, decoder = block.prompt_encoder, block.mask_decoder
    grid = masks.shape[-2:]
    size = tuple(4 * side for side in grid)
    if block.use_masks:
        logits = pseudo_mask_logits(masks, block.alpha).unsqueeze(1)
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    with torch.autocast(image.device.type, enabled=False):
        sparse, dense = encoder((points, labels), None, logits if block.use_masks else None)
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([tokens.expand(len(sparse), -1, -1), sparse], dim=1)
    place = image_pe.t().unflatten(1, grid).unsqueeze(0)
    queries, keys = decoder.transformer(image + dense, place, tokens)
    upscaled = decoder.output_upscaling(keys.transpose(1, 2).unflatten(2, grid))
    weights = decoder.output_hypernetworks_mlps[0](queries[:, 1])
    return keys, (weights.unsqueeze(1) @ upscaled.flatten(2)).view(-1, *size)


def _compare(
    block: SamBlock, sets: int, name: str, args: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Returns the seconds of each repeat, of segment_anything's modules and of ``block``."""
    inputs = _inputs(block, sets, args)
    by_modules = _runner(lambda *x: _by_modules(block, *x), block, inputs, name, args)
    by_block = _runner(block, block, inputs, name, args)
    theirs, ours = [], []
    end = time.perf_counter() + args.seconds
    while len(ours) < 3 or (len(ours) < 50 and time.perf_counter() < end):
        theirs.append(by_modules())
        ours.append(by_block())
    return theirs, ours


def _inputs(block: SamBlock, sets: int, args: argparse.Namespace) -> tuple[Tensor, ...]:
    # Patches outside, channels inside: the strides that the block gets in an ESC-Block.
    image = torch.randn(1, args.grid, args.grid, args.channels).permute(0, 3, 1, 2)
    points = torch.randint(args.grid, (sets, args.points, 2)).float()
    labels = torch.ones(sets, args.points, dtype=torch.long)
    masks = torch.rand(sets, args.grid, args.grid)
    image, points, labels, masks = (x.to(args.device) for x in (image, points, labels, masks))
    return image, block.image_position(args.grid, args.grid), points, labels, masks


def _runner(
    function: Callable[..., tuple[Tensor, Tensor]],
    block: SamBlock,
    inputs: tuple[Tensor, ...],
    name: str,
    args: argparse.Namespace,
) -> Callable[[], float]:
    """Returns a call that runs ``function`` once and returns its seconds."""
    training = name == "training"
    dtype = DTYPES[args.dtype]

    def run() -> float:
        image = inputs[0].detach().requires_grad_(training)
        _wait(args.device)
        start = time.perf_counter()
        with (
            torch.set_grad_enabled(training),
            torch.autocast(args.device, dtype, enabled=dtype != torch.float32),
        ):
            results = function(image, *inputs[1:])
        if training:
            sum(result.float().square().mean() for result in results).backward()
        _wait(args.device)
        seconds = time.perf_counter() - start
        block.zero_grad()
        return seconds

    return run


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _check_equal(block: SamBlock, args: argparse.Namespace) -> None:
    """Compares both ways; also warms them up."""
    inputs = _inputs(block, 2, args)
    with torch.no_grad():
        pairs = zip(_by_modules(block, *inputs), block(*inputs))
        difference = max((a - b).abs().max().item() for a, b in pairs)
    if not difference < 1e-4:
        raise RuntimeError(f"The two ways differ by {difference:.2g} in float32.")
    print(f"Largest difference in float32: {difference:.1e}\n")


if __name__ == "__main__":
    main()
