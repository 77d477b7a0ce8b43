"""Times torch.ops.escnet_d2.masked_kmeans against other k-means, and measures its clusters.

    python tools/benchmark_kmeans.py                          # about two minutes, no download
    python tools/benchmark_kmeans.py --write                  # also into docs/benchmarks.md
    python tools/benchmark_kmeans.py --weights FILE ...       # maps of another model: --help
    python tools/benchmark_kmeans.py --forward                # part of the model's forward

Libraries are needed for their rows only: pip install 'escnet-d2[bench]'. The maps are those of a
trained model, by default the shipped one on the shipped pictures; with --drawn they are smooth
random fields, of which the highest 13 % are foreground. Times of one thread are the shortest CPU
time of the process over all repeats: other work on the machine does not count. Threads are compared
by the shortest wall time.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import itertools
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.layers import masked_kmeans
from escnet_d2.layers.extension import find_extension
from escnet_d2.layers.kmeans_reference import kmeans_reference

from kmeans_forward import forward_share, maps_of_model  # isort: skip
from kmeans_rivals import LIBRARIES, by_sklearn, dense_torch, mean_square, positions  # isort: skip
from markdown_section import replace_section  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
DRAWN_SHARE = 0.13
# Weights that come with the package, and their configuration.
SHIPPED = "escnet_tiny_shapes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = _parse(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if find_extension() is None:
        print("The extension is not built: the operator is the torch code here.", file=sys.stderr)
    if args.forward:
        report = _heading("Part of the forward; CPU")
        section, lines = "kmeans-forward", forward_share(args, drawn_maps)
    else:
        scores, mask, source = _maps(args)
        report = _heading(f"{len(mask)} maps of {mask.shape[1]} x {mask.shape[2]}, k = {args.k}")
        section, lines = "kmeans", _compare(scores, mask, source, args)
    report = "\n".join([*report, *lines])
    print(report)
    if args.write:
        replace_section(args.write, section, report)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=int, default=847, help="problems")
    parser.add_argument("--drawn", action="store_true", help="drawn maps instead of a model's")
    parser.add_argument("--grid", type=int, default=24, help="side of the drawn maps")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=50, help="of the operator; others: a tenth")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--config-file", metavar="NAME_OR_FILE", help="of the model; by default named like it"
    )
    parser.add_argument("--weights", default=SHIPPED, help="of the model (%(default)s)")
    parser.add_argument("--resolution", type=int, default=192, help="what its CLIP sees, pixels")
    parser.add_argument("--images", default="demo/images", help="image, folder or glob for it")
    parser.add_argument("--vocabulary", default="shapes_val_sem_seg", help="classes for it")
    parser.add_argument("--forward", action="store_true", help="measure a whole forward instead")
    parser.add_argument("--classes", type=int, default=60, help="for --forward: vocabulary")
    parser.add_argument("--present", type=int, default=10, help="for --forward: with foreground")
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=ROOT / "docs" / "benchmarks.md",
        help="put the result into its section of this file",
    )
    return parser.parse_args(arguments)


def _heading(what: str) -> list[str]:
    return [
        f"{what}. {_cpu_name()}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{datetime.date.today()}.",
        "",
    ]


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def drawn_maps(count: int, grid: int) -> tuple[Tensor, Tensor]:
    """Smooth random fields (count, grid, grid) and their highest values as masks."""
    coarse = torch.randn(count, 1, max(grid // 4, 1), max(grid // 4, 1))
    scores = F.interpolate(coarse, size=(grid, grid), mode="bicubic")[:, 0]
    scores += 0.1 * torch.randn_like(scores)
    threshold = scores.flatten(1).quantile(1 - DRAWN_SHARE, dim=1)
    return scores, scores > threshold[:, None, None]


def _maps(args: argparse.Namespace) -> tuple[Tensor, Tensor, str]:
    if args.drawn:
        scores, mask = drawn_maps(args.maps, args.grid)
        return scores, mask, "drawn: smooth random fields, not maps of a model"
    scores, mask = maps_of_model(args)
    found = len(mask)
    index = torch.arange(args.maps) % found
    source = (
        f"{found} class maps with foreground of {Path(args.weights).name} at {args.resolution} "
        f"pixels on {args.images}, repeated in turn"
    )
    return scores[index], mask[index], source


def _compare(scores: Tensor, mask: Tensor, source: str, args: argparse.Namespace) -> list[str]:
    full = torch.ones_like(mask)
    share = f"{100 * mask.float().mean():.0f} %"
    rows = [
        (
            "**this operator**",
            *_times(lambda m: masked_kmeans(scores, m, args.k), mask, full, args.repeats),
        )
    ]
    few = max(args.repeats // 10, 2)
    torch_ways: list[tuple[str, Callable]] = [
        ("torch, batched over foreground (the fallback)", kmeans_reference),
        ("torch, batched over all pixels", dense_torch),
    ]
    if not args.no_compile:
        torch_ways.append(
            ("the same under `torch.compile`", torch.compile(dense_torch, dynamic=False))
        )
    for name, way in torch_ways:
        rows.append((name, *_times(lambda m, way=way: way(scores, m, args.k), mask, full, few)))
    missing = []
    for name, module, way in LIBRARIES:
        if importlib.util.find_spec(module) is None:
            missing.append(name)
            continue
        rows.append((name, *_times(lambda m, way=way: way(scores, m, args.k), mask, full, 2)))
    own = rows[0]
    lines = [
        f"Maps: {source}; {share} foreground. One thread, shortest CPU time.",
        "",
        f"| | {share}, ms | times slower | full masks, ms | times slower |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {some:.2f} | {some / own[1]:.1f} | {every:.1f} | {every / own[2]:.1f} |"
        for name, some, every in rows
    ]
    lines += ["", f"Not installed: {', '.join(missing)}."] if missing else []
    lines += [
        "",
        *_thread_lines(scores, mask, full, args),
        "",
        *_quality_lines(scores, mask, args.k),
    ]
    return lines


def _times(
    run: Callable[[Tensor], object], mask: Tensor, full: Tensor, repeats: int
) -> tuple[float, float]:
    """Milliseconds with the masks and with full ones."""
    return _cpu_ms(lambda: run(mask), repeats), _cpu_ms(lambda: run(full), repeats)


def _cpu_ms(run: Callable[[], object], repeats: int, clock: Callable = time.process_time) -> float:
    run()
    shortest = float("inf")
    for _ in range(repeats):
        start = clock()
        run()
        shortest = min(shortest, clock() - start)
    return 1e3 * shortest


def _thread_lines(
    scores: Tensor, mask: Tensor, full: Tensor, args: argparse.Namespace
) -> list[str]:
    """Wall times of one and two threads, which take turns."""
    shortest = dict.fromkeys(itertools.product((1, 2), ("some", "full")), float("inf"))
    for _ in range(5):
        for threads, kind in shortest:
            torch.set_num_threads(threads)
            chosen = mask if kind == "some" else full
            ms = _cpu_ms(
                lambda m=chosen: masked_kmeans(scores, m, args.k), args.repeats, time.perf_counter
            )
            shortest[threads, kind] = min(shortest[threads, kind], ms)
    torch.set_num_threads(1)
    return [
        f"The operator on one thread {shortest[1, 'some']:.2f} ms, on two "
        f"{shortest[2, 'some']:.2f} ms of wall time; with full masks {shortest[1, 'full']:.2f} and "
        f"{shortest[2, 'full']:.2f} ms."
    ]


def _quality_lines(scores: Tensor, mask: Tensor, k: int) -> list[str]:
    """Mean squared distances to the centres, against scikit-learn's best of ten starts."""
    if importlib.util.find_spec("sklearn") is None:
        return ["Inertia was not compared: scikit-learn is not installed."]
    clusters = masked_kmeans(scores, mask, k)
    busy = [m for m in range(len(mask)) if mask[m].any()]
    best = by_sklearn(scores, mask, k, starts=10)
    single = by_sklearn(scores, mask, k)
    ratios, single_ratios = [], []
    for points, m, optimum, one in zip((x for x in positions(mask) if len(x)), busy, best, single):
        lowest = mean_square(points, optimum)
        if lowest == 0:  # no more pixels than clusters
            continue
        ours = clusters.centers[m][clusters.counts[m] > 0].numpy()
        ratios.append(mean_square(points, ours) / lowest)
        single_ratios.append(mean_square(points, one) / lowest)
    return [
        "Inertia relative to scikit-learn's best of 10 starts: "
        f"mean {statistics.mean(ratios):.3f}, median {statistics.median(ratios):.3f} "
        f"over {len(ratios)} maps; scikit-learn with one start (k-means++): "
        f"mean {statistics.mean(single_ratios):.3f}."
    ]


if __name__ == "__main__":
    sys.exit(main())
