r"""Compares models on data sets: one table and one plot, each model in a process of its own.

::

    escnet-d2 compare --output output/comparison --datasets A-150,PC-59 \
        --model "ESC-Net=escnet_vitb16_384_bs4_80k:esc_net.pth" \
        --model "CAT-Seg=CAT-Seg/configs/vitb_384.yaml:model_base.pth" \
        --published ESC-Net,CAT-Seg,SED TEST.SLIDING_WINDOW True
    escnet-d2 compare --output output/comparison --datasets A-150 \
        --predictions "other=A-150:sem_seg_predictions.json"

A model is ``NAME=CONFIG[:WEIGHTS]``, by default with its configuration's weights; models of one
name, such as seeds, make one row of means and standard deviations. ``--model-opts NAME KEY VALUE
...`` changes one model, up to the next option or ``--``; the KEY VALUE pairs at the end change all
of them. Each is evaluated by ``escnet-d2 evaluate``; one that fails costs its row.
docs/baselines.md explains the columns.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder; finished data sets in it are kept")
    add("--datasets", required=True, metavar="NAME,...", help="registered, or the papers' (A-150)")
    add("--model", action="append", default=[], metavar="NAME=CONFIG[:WEIGHTS]")
    add("--model-opts", action="append", nargs="+", default=[], metavar="NAME KEY VALUE")
    add("--predictions", action="append", default=[], metavar="NAME=DATASET:FILE")
    add("--published", default="", metavar="METHOD,...", help="quote these methods' figures")
    add("--score", default="mIoU", metavar="NAME", help="of the table and plot (%(default)s)")
    add("--images", type=int, default=10, help="of the first data set, to measure the cost on")
    add("--allow-incomplete", action="store_true", help="evaluate data sets that lack images too")
    add("--rerun", action="store_true", help="evaluate again what has results")
    add("opts", nargs="*", metavar="KEY VALUE", help="configuration keys of all models")
    return parser


def evaluations(args: argparse.Namespace) -> list[tuple[str, Path, list[str]]]:
    """Returns name, ``OUTPUT_DIR`` and arguments of ``escnet-d2 evaluate`` of each model.

    Raises:
        ValueError: no data set is named, a model is not NAME=CONFIG[:WEIGHTS], or options are of
            no model.
    """
    if not split_names(args.datasets):
        raise ValueError("--datasets names no data set.")
    special: dict[str, list[str]] = {}
    for name, *pairs in args.model_opts:
        special.setdefault(name, []).extend(pairs)
    found = []
    for number, text in enumerate(args.model, start=1):
        match = re.fullmatch(r"([^=]+)=([^:]+)(?::(.+))?", text)
        if match is None:
            raise ValueError(f"--model {text!r} is not NAME=CONFIG[:WEIGHTS].")
        name, config, weights = match.groups()
        folder = (args.output / "models" / f"{number:02}_{folder_name(name)}").absolute()
        arguments = ["--config-file", config, "--title", name, "--cost-images", str(args.images)]
        arguments += ["--allow-incomplete"] * args.allow_incomplete + ["--rerun"] * args.rerun
        arguments += ["--", *args.opts, *special.get(name, ())]
        arguments += ["DATASETS.TEST", str(tuple(split_names(args.datasets)))]
        if weights:
            arguments += ["MODEL.WEIGHTS", weights]
        found.append((name, folder, [*arguments, "OUTPUT_DIR", str(folder)]))
    strangers = sorted(set(special) - {name for name, _, _ in found})
    if strangers:
        raise ValueError(f"--model-opts of no model: {', '.join(strangers)}.")
    return found


def evaluate(name: str, folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Evaluates one model in a process of its own, which may die without harm.

    Args:
        name: of the model's row.
        folder: its ``OUTPUT_DIR``; results of an earlier run there are kept.
        arguments: of ``escnet-d2 evaluate``.

    Returns:
        A run as :func:`escnet_d2.evaluation.tables.write_comparison` takes it, and its exit code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inference, console = folder / "inference", folder / "console.txt"
    for file in ("benchmarks.json", "cost.json"):
        (inference / file).unlink(missing_ok=True)
    with console.open("w", encoding="utf-8") as output:
        command = [sys.executable, "-m", "escnet_d2", "evaluate", *arguments]
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    run = {"name": name, "exit_code": done.returncode}
    if not (inference / "benchmarks.json").is_file():
        lines = console.read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "").strip()[:500]
        return {**run, "error": f"exit code {done.returncode}: {last} ({console})"}
    report = json.loads((inference / "benchmarks.json").read_text(encoding="utf-8"))
    cost = inference / "cost.json"
    return {
        **run,
        "source": report["source"],
        "untrained": report["untrained"],
        "datasets": {
            dataset["name"]: {
                "state": dataset["state"],
                "detail": dataset["detail"],
                "scores": dataset["scores"] or {},
            }
            for dataset in report["datasets"]
        },
        "cost": json.loads(cost.read_text(encoding="utf-8")) if cost.is_file() else None,
    }


def split_names(text: str) -> list[str]:
    """Returns registered names of data sets from a list with commas."""
    from escnet_d2.evaluation.published import BENCHMARK_NAMES

    names = [name.strip() for name in text.split(",") if name.strip()]
    return [BENCHMARK_NAMES.get(name, name) for name in names]


def published_methods(args: argparse.Namespace) -> list[str]:
    """Returns the methods whose published figures are asked for.

    Raises:
        ValueError: there are none of a method.
    """
    from escnet_d2.evaluation.published import published_results

    wanted = [name.strip() for name in args.published.split(",") if name.strip()]
    known = list(dict.fromkeys(row.model for row in published_results()))
    strangers = [name for name in wanted if name.casefold() not in map(str.casefold, known)]
    if strangers:
        raise ValueError(
            f"--published knows no {', '.join(strangers)}; there is {', '.join(known)}."
        )
    return wanted


def rescore(args: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Scores the prediction files; returns the scores by name and data set.

    Raises:
        FileNotFoundError: a file or data set is not there.
        ValueError: an argument or a file is not what it should be.
    """
    from detectron2.data import DatasetCatalog

    from escnet_d2.evaluation.published import BENCHMARK_NAMES
    from escnet_d2.evaluation.rescoring import rescore_predictions

    scores: dict[str, dict[str, dict[str, float]]] = {}
    for text in args.predictions:
        match = re.fullmatch(r"([^=]+)=([^:]+):(.+)", text)
        if match is None:
            raise ValueError(f"--predictions {text!r} is not NAME=DATASET:FILE.")
        name, dataset, file = match[1], BENCHMARK_NAMES.get(match[2], match[2]), match[3]
        if dataset not in DatasetCatalog:
            raise ValueError(f"--predictions {text!r}: no data set {dataset} is registered.")
        scores.setdefault(name, {})[dataset] = rescore_predictions(
            file,
            dataset,
            output_dir=args.output / "rescored" / folder_name(name) / dataset,
            allow_incomplete=args.allow_incomplete,
        )
    return scores


def folder_name(name: str) -> str:
    """Returns a row's name without what a path cannot hold."""
    return re.sub(r"[^\w.-]+", "_", name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code: 1 if that of one of the evaluations is not 0.

    Raises:
        SystemExit: as :func:`escnet_d2.engine.one_line_errors`.
    """
    args = argument_parser().parse_args(arguments)
    from escnet_d2.config import check_choice
    from escnet_d2.engine import load_config, one_line_errors
    from escnet_d2.evaluation.metrics import SCORES
    from escnet_d2.evaluation.tables import write_comparison
    from escnet_d2.outputs import check_output_folder

    with one_line_errors():
        check_choice("--score", args.score, SCORES)
        models = evaluations(args)
        if not models and not args.predictions:
            raise ValueError("give a --model or --predictions.")
        check_output_folder(args.output)
        # Registers the data folders that the keys name, which prediction files may be of.
        if args.opts and args.predictions:
            load_config("escnet_tiny", args.opts)
        published = published_methods(args)
        rescored = rescore(args)
    args.output.mkdir(parents=True, exist_ok=True)
    runs = []
    for number, (name, folder, options) in enumerate(models, start=1):
        console = folder / "console.txt"
        print(f"{number} of {len(models)}: {name}, output in {console}", flush=True)
        runs.append(evaluate(name, folder, options))
    text = write_comparison(
        runs,
        rescored,
        split_names(args.datasets),
        args.output,
        published=published,
        score=args.score,
    )
    print(text)
    return 1 if any(run["exit_code"] for run in runs) else 0
