#!/usr/bin/env python
"""Times the embedding of class names against open_clip's own classifier of class names.

Both embed every name in every template and average over the templates, in turn, with the same
random weights. What is asked for again is remembered. Prints a Markdown table:

    python benchmarks/text_encoder.py                   # ViT-B/16's text tower, one CPU thread
    python benchmarks/text_encoder.py --model ViT-L-14 --classes 847 --templates 1 --device cuda
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable, Sequence

import open_clip
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES, build_zero_shot_classifier
from torch import Tensor

from escnet_d2.modeling.clip import TextEncoder


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parse(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = open_clip.create_model(args.model, pretrained=None, device=args.device).eval()
    tokenizer = open_clip.get_tokenizer(args.model)
    device = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(
        f"{args.model}, float32; {device}, {args.threads} CPU threads, torch {torch.__version__}, "
        f"open_clip {open_clip.__version__}, {datetime.date.today()}; shortest of {args.repeats}"
    )
    print("| classes | templates | open_clip, s | ours, s | times faster | again, ms |")
    print("|---:|---:|---:|---:|---:|---:|")
    for classes in args.classes:
        names = [f"class number {index}" for index in range(classes)]
        entries = [(name,) for name in names]
        for number in args.templates:
            templates = [template("{}") for template in OPENAI_IMAGENET_TEMPLATES[:number]]
            encoder = TextEncoder(
                model, tokenizer, templates, average_templates=True, batch_size=args.batch_size
            )

            def theirs(names: list[str] = names, templates: list[str] = templates) -> Tensor:
                return build_zero_shot_classifier(
                    model,
                    tokenizer,
                    names,
                    templates,
                    num_classes_per_batch=max(args.batch_size // len(templates), 1),
                    device=args.device,
                ).t()

            def ours(encoder: TextEncoder = encoder, entries: list = entries) -> Tensor:
                encoder.forget()
                return encoder.encode(entries)[:, 0]

            torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-4)
            slow, fast = _shortest([theirs, ours], args)
            (again,) = _shortest([lambda e=encoder, n=entries: e.encode(n)], args)
            print(
                f"| {classes} | {number} | {slow:.2f} | {fast:.2f} | {slow / fast:.2f} "
                f"| {1e3 * again:.2f} |",
                flush=True,
            )


def _shortest(calls: Sequence[Callable[[], Tensor]], args: argparse.Namespace) -> list[float]:
    """Runs the calls in turn; returns each one's shortest time in seconds, of the CPU or a GPU."""
    clock = time.process_time if args.device == "cpu" else time.perf_counter
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(args.repeats):
        for call, own in zip(calls, times):
            start = clock()
            call()
            if args.device == "cuda":
                torch.cuda.synchronize()
            own.append(clock() - start)
    return [min(own) for own in times]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="ViT-B-16", help="open_clip's name (default: %(default)s)")
    add("--classes", type=int, nargs="+", default=[20, 150])
    add("--templates", type=int, nargs="+", default=[1], help="of ImageNet's 80")
    add("--batch-size", type=int, default=128, help="sentences at a time (default: %(default)s)")
    add("--repeats", type=int, default=2)
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--threads", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
