#!/usr/bin/env python
"""The official CAT-Seg and SED as columns of ``forward.py``, run from clones of their repositories.

They run as they are, in a process of their own, that this file is the program of: they register
models under our names, and SED brings an open_clip of its own. What they download is replaced by
random weights of the same sizes and by given text embeddings, and so are their calls of ``cuda()``
on a CPU; nothing else. Their requirements must be installed: einops, and what we need ourselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# By name in the tables: repository, package, configuration, side of the image in pixels.
PROGRAMS = {
    "official CAT-Seg": ("cvlab-kaist/CAT-Seg", "cat_seg", "configs/vitb_384.yaml", 384),
    "official SED": ("xb534/SED", "sed", "configs/convnextB_768.yaml", 768),
}
# OpenAI's ViT-B/16: channels of both towers, image side, then blocks, width and patch of the one,
# and length, words, width, heads and blocks of the other.
_VIT_B16 = (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)


def check_clone(name: str, folder: str) -> str:
    """Returns the folder in full; ValueError if it is no clone of the program's repository."""
    repository, _, config, _ = PROGRAMS[name]
    if not (Path(folder) / config).is_file():
        raise ValueError(f"{folder} is no clone of {repository}: it has no {config}.")
    return str(Path(folder).resolve())


class OfficialRun:
    """An official program in a process of its own, ready to run on one image."""

    def __init__(self, name: str, folder: str, *, classes: int, device: str, threads: int) -> None:
        """Starts the process; ValueError where the program does not."""
        command = [sys.executable, "-W", "ignore", __file__, name, folder, classes, device, threads]
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.parts: dict[str, float] = {}  # Not told apart.
        self._answer()

    def __call__(self) -> tuple[float, float]:
        """Runs the model once; returns CPU seconds of the process and seconds that passed."""
        return tuple(self._ask("run"))

    def memory(self) -> int:
        """Returns the bytes that a run takes at its peak, above the model."""
        return self._ask("memory")

    def _ask(self, question: str) -> object:
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> object:
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise ValueError(f"{self._process.args[4]}: {answer['error']}")
        return answer["value"]


def main() -> None:
    """Runs one program as often as lines of standard input ask for it; answers in JSON."""
    name, folder, classes, device, threads = sys.argv[1:]
    # What the programs print goes elsewhere.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: object) -> None:
        print(json.dumps(values), file=channel, flush=True)

    try:
        run = _build(name, Path(folder), int(classes), torch.device(device), int(threads))
        answer(value=None)
        for question in sys.stdin:
            answer(value=memory_above(run, device) if question.strip() == "memory" else _time(run))
    except Exception as error:  # noqa: BLE001 - whatever they raise, the other side says it
        answer(error=f"{type(error).__name__}: {error}")


def _build(
    name: str, folder: Path, classes: int, device: torch.device, threads: int
) -> Callable[[], None]:
    """Builds a program's model; returns a call that segments one image."""
    _, package, config, side = PROGRAMS[name]
    sys.path[:0] = [str(folder), str(folder / "open_clip" / "src")]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if device.type == "cpu":
        nn.Module.cuda = Tensor.cuda = lambda self, *_, **__: self

    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.projects.deeplab import add_deeplab_config

    add_config = _stub_cat_seg() if package == "cat_seg" else _stub_sed()
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_config(cfg)
    cfg.merge_from_file(str(folder / config))
    cfg.MODEL.DEVICE = device.type
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    with tempfile.TemporaryDirectory() as scratch:
        names = Path(scratch) / "names.json"
        names.write_text(json.dumps([f"class {index}" for index in range(classes)]))
        node = cfg.MODEL.SEM_SEG_HEAD
        node.TRAIN_CLASS_JSON = node.TEST_CLASS_JSON = str(names)
        model = build_model(cfg).eval()
    predictor = model.sem_seg_head.predictor
    if package == "cat_seg":  # It keeps what it embedded last; SED what it embedded first.
        predictor.cache = predictor.text_features_test.to(device)
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8).float()
    batch = [{"image": image, "height": side, "width": side}]

    @torch.no_grad()
    def run() -> None:
        model(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def _stub_cat_seg() -> Callable:
    from cat_seg import add_cat_seg_config
    from cat_seg.modeling.transformer.cat_seg_predictor import CATSegPredictor
    from cat_seg.third_party import clip, model_vpt

    clip.load = lambda *_, **__: (model_vpt.CLIP(*_VIT_B16), None)
    CATSegPredictor.class_embeddings = _random_text(512)
    return add_cat_seg_config


def _stub_sed() -> Callable:
    import open_clip
    from sed import add_sed_config
    from sed.modeling.transformer.sed_predictor import SEDPredictor

    create = open_clip.create_model_and_transforms
    open_clip.create_model_and_transforms = lambda name, **_: create(name, pretrained=None)
    SEDPredictor.class_embeddings = _random_text(640)
    return add_sed_config


def _random_text(dim: int) -> Callable[..., Tensor]:
    """Makes what stands in for ``class_embeddings``: unit vectors, (templates, classes, dim)."""
    return lambda _, names, templates, *__: F.normalize(
        torch.randn(len(templates), len(names), dim), dim=-1
    )


def _time(run: Callable[[], None]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def memory_above(run: Callable[[], object], device: str) -> int:
    """Returns the bytes that the first ``run`` of a process takes at its peak, above the model."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        # What building the model took and freed would serve the run unseen: glibc gives it back
        # to the system, and Linux forgets that there was more. Others may show less.
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
    before = _peak(device)
    run()
    return _peak(device) - before


def _peak(device: str) -> int:
    # `escnet_d2.engine.model_cost.peak_memory` has it too, but importing it registers our models
    # under the names of the official ones.
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
