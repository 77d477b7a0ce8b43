#!/usr/bin/env python3
"""Runs the whole pipeline on drawn scenes: data set, training, evaluation, demo; `make demo`.

No pre-trained weights of ESC-Net exist, and none are needed here: a small ESC-Net is trained from
random weights on scenes drawn by tools/demo_scenes.py, then segments scenes it never saw. Every
step is a command that works the same on your own data, and is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from demo_scenes import CLASSES, write_scenes

REPO = Path(__file__).resolve().parents[1]
FOLDER = Path("output/demo")
SIZE = (128, 160)
SPLITS = {"train": 300, "val": 60}
NUM_PHOTOS = 6


def main() -> int:
    """Makes the data, trains unless that is done, evaluates, segments; returns an exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--retrain", action="store_true", help="train again")
    args = parser.parse_args()
    start = time.perf_counter()
    if args.retrain:
        shutil.rmtree(REPO / FOLDER, ignore_errors=True)
    photos = draw_scenes()
    weights = FOLDER / "model/model_final.pth"
    if not (REPO / weights).is_file():
        run("train_net.py", "--config-file", "escnet_demo", "--resume")
    else:
        print(f"\nUsing {weights}, trained by an earlier run (--retrain trains again).")
        run("train_net.py", "--config-file", "escnet_demo", "--eval-only", "MODEL.WEIGHTS", weights)
    results = FOLDER / "results"
    run(
        "demo/demo.py",
        *("--config-file", "escnet_demo"),
        *("--weights", weights),
        *("--input", photos),
        *("--vocabulary", ", ".join(CLASSES)),
        *("--output", results),
    )
    report(results, time.perf_counter() - start)
    return 0


def draw_scenes() -> Path:
    """Draws training, validation and demo scenes once; returns the folder of demo images."""
    scenes = FOLDER / "scenes"
    photos = FOLDER / "photos"
    if not (REPO / scenes / "dataset.json").is_file():
        (REPO / scenes).mkdir(parents=True, exist_ok=True)
        (REPO / scenes / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
        for seed, (split, number) in enumerate(SPLITS.items()):
            write_scenes(REPO / scenes / split, num_scenes=number, size=SIZE, seed=seed)
        write_scenes(REPO / photos, num_scenes=NUM_PHOTOS, size=SIZE, seed=len(SPLITS))
        splits = [
            f"{split}={scenes / split / 'images'}:{scenes / split / 'labels'}" for split in SPLITS
        ]
        run(
            "tools/prepare_folder_dataset.py",
            *("--name", "scenes"),
            *(item for split in splits for item in ("--split", split)),
            *("--classes", scenes / "classes.txt"),
            *("--output", scenes),
        )
    return photos / "images"


def run(*command: object) -> None:
    """Prints a command and runs it in the repository; stops the demo where it fails."""
    words = [str(word) for word in command]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    code = subprocess.run([sys.executable, *words], cwd=REPO, check=False).returncode
    if code:
        sys.exit(f"The step failed with exit code {code}.")


def report(results: Path, seconds: float) -> None:
    """Says what was made, and what it is not."""
    scores = json.loads(
        (REPO / FOLDER / "model/inference/scenes_val/results.json").read_text(encoding="utf-8")
    )
    print(
        f"\nDone in {seconds:.0f} s: overlays, label PNGs and JSON of {NUM_PHOTOS} scenes are in "
        f"{results}/.\n"
        f"mIoU on {scores['num_images']} scenes that training never saw: {scores['mIoU']:.1f} %.\n"
        "The weights are those of a tiny ESC-Net, trained from random weights on drawn scenes on "
        "this machine; they know these 8 classes and no photo. See GETTING_STARTED.md for your own."
    )


if __name__ == "__main__":
    sys.exit(main())
