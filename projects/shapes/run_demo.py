#!/usr/bin/env python3
"""Runs the shipped ESC-Net over the shipped pictures and scores it; `make demo`.

The pictures are scenes of the procedural data set `shapes` that no training saw, some of whose
classes no training mask ever showed. Every step is a command that works the same on your own data,
and is printed before it runs.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from escnet_d2.evaluation.tables import markdown_table
from escnet_d2.projects.shapes import group_miou

REPO = Path(__file__).resolve().parents[2]
FOLDER = Path("output/demo")
PICTURES = Path("demo/images")
DATASET = "shapes_demo_sem_seg"
MODELS = {
    "ESC-Net": ("escnet_tiny_shapes", "escnet_tiny_shapes"),
    "zero-shot CLIP": ("zero_shot_clip_shapes", ""),
}


def main() -> int:
    """Segments, looks inside, evaluates; returns an exit code."""
    start = time.perf_counter()
    shutil.rmtree(REPO / FOLDER, ignore_errors=True)
    config, weights = MODELS["ESC-Net"]
    model = ("--config-file", config, "--weights", weights)
    run(
        "demo/demo.py",
        *model,
        *("--input", PICTURES),
        *("--vocabulary", DATASET),
        *("--output", FOLDER / "results"),
    )
    run(
        "demo/inspect_prompts.py",
        *model,
        *("--input", sorted((REPO / PICTURES).glob("*.png"))[0].relative_to(REPO)),
        *("--vocabulary", DATASET),
        *("--output", FOLDER / "prompts"),
    )
    rows = [[name, *evaluate(*files)] for name, files in MODELS.items()]
    print(
        f"\nDone in {time.perf_counter() - start:.0f} s: overlays, label PNGs and JSON are in "
        f"{FOLDER}/results/, a look inside in {FOLDER}/prompts/.\n"
        f"mIoU on these pictures, in percent; no mask of the unseen things was ever trained on:\n\n"
        + markdown_table(["model", "stuff", "seen things", "unseen things", "harmonic mean"], rows)
        + "\n\nThe weights know this drawn world and no photo: see GETTING_STARTED.md for your own."
    )
    return 0


def evaluate(config: str, weights: str) -> list[float]:
    """Scores of the groups of classes, in percent."""
    folder = FOLDER / config
    run(
        "train_net.py",
        *("--config-file", config, "--eval-only"),
        *("MODEL.WEIGHTS", weights),
        *("DATASETS.TEST", f"('{DATASET}',)"),
        *("OUTPUT_DIR", folder),
        quiet=True,
    )
    path = REPO / folder / "inference" / DATASET / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    return list(
        group_miou({record["name"]: record["IoU"] for record in results["per_class"]}).values()
    )


def run(*command: object, quiet: bool = False) -> None:
    """Prints a command and runs it in the repository; stops the demo where it fails.

    Args:
        command: a program of the repository and its arguments.
        quiet: keep its output to a failure.
    """
    words = [str(word) for word in command]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(
        [sys.executable, *words],
        cwd=REPO,
        check=False,
        stdout=output,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout or ''}\nThe step failed with exit code {done.returncode}.")


if __name__ == "__main__":
    sys.exit(main())
