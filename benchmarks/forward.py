#!/usr/bin/env python
r"""Times the models of this package against each other by number of classes, part by part.

Weights are random and text embeddings are given: nothing is downloaded. The models run in turn in
one process, so that a machine busy with other work slows all of them; each one's memory is that of
a process of its own. Prints a Markdown table; ratios are to the first model:

    python benchmarks/forward.py --models CAT-Seg ESC-Net            # one image, one CPU thread
    python benchmarks/forward.py --official-cat-seg ../CAT-Seg --models CAT-Seg ESC-Net
    python benchmarks/forward.py --training --classes 20 171         # a step, and what it keeps
    python benchmarks/forward.py --output forward.json \
        --models CAT-Seg ESC-Net "few=ESC-Net MODEL.ESCNET.MAX_CLASSES 48"

ESC-Net's prompts and the labels in training are of --foreground classes, each with all its points.
SAM-MI is given its masks: SAM's own image encoder is not timed. In training, text is encoded as
there.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import shlex
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from detectron2.modeling import build_model
from official import PROGRAMS, OfficialRun, check_clone, memory_above
from torch import Tensor, nn
from torch.nn import functional as F

import escnet_d2
from escnet_d2.engine import find_config, load_config
from escnet_d2.engine.compilation import compile_regions
from escnet_d2.engine.model_cost import saved_bytes
from escnet_d2.io import write_json
from escnet_d2.layers.class_attention import ClassAttention
from escnet_d2.layers.class_transformer import ClassTransformer
from escnet_d2.layers.guided_upsampling import DoubleConv
from escnet_d2.layers.mask_pooling import MaskPooling
from escnet_d2.layers.swin_pair import SwinPair
from escnet_d2.layers.window_attention import GuidedSwinBlock
from escnet_d2.modeling.cat_seg.aggregator import CostAggregator
from escnet_d2.modeling.cat_seg.aggregator import UpBlock as CatSegUpBlock
from escnet_d2.modeling.clip import TextEncoder
from escnet_d2.modeling.escnet import ESCNetHead
from escnet_d2.modeling.escnet.decoder import MaskDecoder
from escnet_d2.modeling.escnet.pseudo_prompts import PseudoPromptGenerator
from escnet_d2.modeling.sam import SamBlock
from escnet_d2.modeling.sam_mi import MaskInjection
from escnet_d2.modeling.sed import GradualDecoder
from escnet_d2.modeling.sed.convnext_block import ConvNextBlock
from escnet_d2.structures import Vocabulary

MODELS = {
    "CAT-Seg": "cat_seg_vitb16_384_bs4_80k",
    "ESC-Net": "escnet_vitb16_384_bs4_80k",
    "SAM-MI": "sam_mi_vitb16_384_bs4_80k",
    "SED": "sed_convnextb_768_bs4_80k",
}
HEADS = (ESCNetHead, CostAggregator, GradualDecoder)
PARTS = {
    PseudoPromptGenerator: "prompts",
    SamBlock: "SAM",
    MaskPooling: "pooling",
    GuidedSwinBlock: "spatial",
    SwinPair: "spatial",
    ConvNextBlock: "spatial",
    ClassAttention: "class attention",
    ClassTransformer: "class attention",
    MaskDecoder: "decoder",
    CatSegUpBlock: "decoder",
    DoubleConv: "decoder",
}
_MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A model with its keys, and what it runs on; ``config`` of an official one is its clone."""

    name: str
    config: str
    opts: tuple[str, ...]
    classes: int
    foreground: int
    masks: int
    device: str
    threads: int
    training: bool


class Run:
    """One model, ready to run on one image.

    Attributes:
        parts: seconds by part, added up over the runs: CPU's on a CPU. "CLIP" is all before the
            head, "after" all after it, "head" all of it, which the others are parts of. Compiled
            heads have no parts.
    """

    def __init__(self, case: Case) -> None:
        """Builds the model; ValueError for keys that don't fit."""
        torch.manual_seed(0)
        torch.set_num_threads(case.threads)
        weights = ("MODEL.CLIP.WEIGHTS", "random", "MODEL.SAM.WEIGHTS", "random")
        masks = ("MODEL.MASKS.SOURCE", "file", "TEST.LABEL_MAP_ONLY", True)
        opts = (*weights, *masks, "MODEL.DEVICE", case.device, *case.opts)
        cfg = load_config(find_config(case.config), opts, datasets_required=False)
        self.case = case
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.model = build_model(cfg).train(case.training)
        self.parts: dict[str, float] = defaultdict(float)
        self._is_in_head, self._depth = False, 0
        side = self.model.resolution
        height, width = (side, side) if isinstance(side, int) else side
        self._batch = [self._sample(height, width)]
        self._is_compiled = cfg.MODEL.COMPILE
        if self._is_compiled:
            compile_regions(self.model)
        self.model.register_forward_pre_hook(self._begin)
        for module in self.model.modules():
            text = getattr(module, "text", None)
            if isinstance(text, TextEncoder) and not case.training:
                self._give_text(text)
            if isinstance(module, PseudoPromptGenerator):
                module.register_forward_pre_hook(self._give_class_map)
            if isinstance(module, MaskInjection):
                for part in (*module.low.values(), *module.high):
                    self._time_part(part, "injection")
            elif type(module) in PARTS:
                self._time_part(module, PARTS[type(module)])
            elif isinstance(module, HEADS):
                self._time_head(module)

    def __call__(self) -> tuple[float, float]:
        """Runs the model once; returns CPU seconds of the process and seconds that passed."""
        self._wait()
        cpu, wall = time.process_time(), time.perf_counter()
        with torch.set_grad_enabled(self.case.training):
            result = self.model(self._batch)
            if self.case.training:
                sum(result.values()).backward()
        self._wait()
        self.parts["after"] += self._clock() - self._end
        self.model.zero_grad()
        return time.process_time() - cpu, time.perf_counter() - wall

    def memory(self) -> int:
        """Returns bytes: what training keeps for the backward pass, else the peak of a run."""
        if self.case.training:
            return saved_bytes(self.model, self._batch)
        return memory_above(self, self.device.type)

    def _sample(self, height: int, width: int) -> dict[str, object]:
        names = [f"class {index}" for index in range(self.case.classes)]
        cells = self._cells(16, 16).repeat_interleave(-(-height // 16), 0)
        labels = cells.repeat_interleave(-(-width // 16), 1)[:height, :width].clone()
        masks = torch.zeros(self.case.masks, height, width, dtype=torch.bool)
        for index, mask in enumerate(masks):
            y, x = (index // 8) % 8 * height // 8, index % 8 * width // 8
            mask[y : y + height // 4, x : x + width // 4] = True
        return {
            "image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8),
            "sem_seg": labels,
            "masks": masks,
            "vocabulary": Vocabulary.from_classes(names),
        }

    def _cells(self, height: int, width: int) -> Tensor:
        """Class of each cell (height, width): --foreground ones, each in one region."""
        number = min(self.case.foreground, self.case.classes)
        return (torch.arange(height * width) * number // (height * width)).view(height, width)

    def _give_text(self, text: TextEncoder) -> None:
        with torch.no_grad():
            width = text.encode_sentences(["a photo"]).shape[-1]
        shape = (self.case.classes, text.num_templates, width)
        vectors = F.normalize(torch.randn(shape), dim=-1).to(self.device)
        text.encode = lambda entries: vectors

    def _give_class_map(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Lets as many classes have foreground as the case says, whatever the random weights do."""
        logits = torch.zeros_like(inputs[0])
        cells = self._cells(*logits.shape[2:]).to(self.device).expand_as(logits[:, :1])
        kept = cells.clamp(max=logits.shape[1] - 1)
        return (logits.scatter(1, kept, 20.0),)

    def _begin(self, *_: object) -> None:
        self._start = self._clock()

    def _time_part(self, module: nn.Module, name: str) -> None:
        """Adds a module's forward passes to a part; those inside another part count there."""
        if self._is_compiled:
            return  # Hooks would cut its graphs.

        def before(*_: object) -> None:
            self._depth += 1
            if self._depth == 1:
                self._part_start = self._clock()

        def after(*_: object) -> None:
            self._depth -= 1
            # What is computed again in the backward pass comes after the head.
            if self._depth == 0 and self._is_in_head:
                self.parts[name] += self._clock() - self._part_start

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def _time_head(self, module: nn.Module) -> None:
        def before(*_: object) -> None:
            # Computing again ends within a part, as soon as it has what the backward pass needs.
            self._is_in_head, self._depth, self._end = True, 0, self._clock()
            self.parts["CLIP"] += self._end - self._start

        def after(*_: object) -> None:
            start, self._end = self._end, self._clock()
            self._is_in_head = False
            self.parts["head"] += self._end - start

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def _clock(self) -> float:
        self._wait()
        return time.process_time() if self.device.type == "cpu" else time.perf_counter()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def start(case: Case) -> Run | OfficialRun:
    """Builds the model of a case."""
    if case.name not in PROGRAMS:
        return Run(case)
    return OfficialRun(
        case.name, case.config, classes=case.classes, device=case.device, threads=case.threads
    )


def measure_memory(case: Case) -> int:
    """Returns what :meth:`Run.memory` does, from a process of its own."""
    escnet_d2.register()
    return start(case).memory()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = _parse(arguments)
    escnet_d2.register()
    try:
        _add_official(args)
        rows = measure(args)
    except (OSError, ValueError) as error:
        print(f"forward.py: error: {error}", file=sys.stderr)
        return 2
    device = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    facts = {
        "device": f"{device}, {args.threads} threads",
        "torch": torch.__version__,
        "date": str(datetime.date.today()),
        "pass": "training" if args.training else "inference",
        "foreground": args.foreground,
    }
    print(", ".join(f"{name}: {value}" for name, value in facts.items()), end="\n\n")
    print(table(rows, training=args.training))
    if args.output:
        write_json(args.output, {**facts, "rows": rows})
    return 0


def _add_official(args: argparse.Namespace) -> None:
    """Puts the official programs that were asked for before the models."""
    folders = {"official CAT-Seg": args.official_cat_seg, "official SED": args.official_sed}
    found = [
        {"name": name, "config": check_clone(name, folder), "opts": ()}
        for name, folder in folders.items()
        if folder
    ]
    if found and args.training:
        raise ValueError("--training leaves out the official programs, which need other labels.")
    args.models = [*found, *args.models]


def measure(args: argparse.Namespace) -> list[dict[str, object]]:
    """Measures all models at all numbers of classes; one row of plain data for each."""
    cases = [
        [
            Case(
                **model,
                classes=classes,
                foreground=args.foreground,
                masks=args.masks,
                device=args.device,
                threads=args.threads,
                training=args.training,
            )
            for model in args.models
        ]
        for classes in args.classes
    ]
    # All of it first: a process begins with the memory of the one that starts it.
    memory = {case: _memory_of_its_own(case) for group in cases for case in group}
    return [row for group in cases for row in _race(group, memory, args.repeats)]


def _memory_of_its_own(case: Case) -> int:
    print(f"Memory of {case.name}, K = {case.classes}", file=sys.stderr)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure_memory, case).result()


def _race(cases: list[Case], memory: dict[Case, int], repeats: int) -> list[dict[str, object]]:
    """Runs models in turn; ratios are to the first."""
    print(f"All models, K = {cases[0].classes}", file=sys.stderr)
    runs = [start(case) for case in cases]
    for run in runs:  # Loads kernels, and makes what is remembered from image to image.
        run()
        run.parts.clear()
    turns = [[run() for run in runs] for _ in range(repeats)]
    rows = []
    for case, run, times in zip(cases, runs, zip(*turns)):
        cpu, wall = (statistics.median(column) for column in zip(*times))
        parts = {name: seconds / repeats for name, seconds in run.parts.items()}
        if "head" in parts:
            inside = sum(parts[name] for name in parts if name not in ("CLIP", "head", "after"))
            parts["other"] = parts.pop("head") - inside
        row = {**asdict(case), "cpu_seconds": cpu, "seconds": wall, "parts": parts}
        rows.append({**row, "bytes": memory[case]})
    clock = "cpu_seconds" if cases[0].device == "cpu" else "seconds"
    return [{**row, "ratio": row[clock] / rows[0][clock]} for row in rows]


def table(rows: Sequence[dict[str, object]], *, training: bool) -> str:
    """Makes a Markdown table of the rows of :func:`measure`."""
    memory = "kept for backward, MiB" if training else "above the model, MiB"
    lines = [
        f"| K | model | CPU s | s | ratio | {memory} | by part, s |",
        "|---:|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in row["parts"].items())
        lines.append(
            f"| {row['classes']} | {row['name']} | {row['cpu_seconds']:.2f} | {row['seconds']:.2f} "
            f"| {row['ratio']:.2f} | {row['bytes'] / _MIB:.0f} | {parts} |"
        )
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--models",
        type=_model,
        nargs="+",
        default=[*map(_model, MODELS)],
        metavar="NAME[=CONFIG KEY VALUE ...]",
        help=f"of {', '.join(MODELS)}; or any name, with one of those or a configuration and keys",
    )
    for name, (repository, *_) in PROGRAMS.items():
        option = name.lower().replace(" ", "-")
        add(f"--{option}", metavar="FOLDER", help=f"a clone of {repository}: run it as well, first")
    add("--classes", type=int, nargs="+", default=[20, 150], help="numbers of classes K")
    add("--foreground", type=int, default=20, help="classes that the image shows (%(default)s)")
    add("--masks", type=int, default=40, help="of SAM-MI's image (%(default)s)")
    add("--training", action="store_true", help="forward and backward instead of inference")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    add("--repeats", type=int, default=3, help="of each, after one more (%(default)s)")
    add("--output", type=Path, metavar="FILE", help="the rows as JSON")
    return parser.parse_args(arguments)


def _model(text: str) -> dict[str, object]:
    name, _, rest = text.partition("=")
    config, *opts = shlex.split(rest or name)
    if not rest and name not in MODELS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(MODELS)}: NAME=CONFIG.")
    return {"name": name, "config": MODELS.get(config, config), "opts": tuple(opts)}


if __name__ == "__main__":
    sys.exit(main())
