"""The command line: ``escnet-d2 COMMAND``, also as ``python -m escnet_d2 COMMAND``.

Each command is a module of this room with ``argument_parser()``, which imports nothing but the
standard library, and ``main(arguments) -> int``, whose result is the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import escnet_d2

# In the order in which they are listed; a word with a dash is a module with an underscore.
COMMANDS = {
    "segment": "segment photos by class names",
    "video": "segment a video, camera or stream by class names",
    "web": "serve a page that segments photos, at a local address",
    "autolabel": "segment photos into annotations of COCO, YOLO, Label Studio, CVAT",
    "train": "train a model, or go on with a training",
    "preflight": "say what a training will take on this machine, before it is started",
    "evaluate": "score a checkpoint on data sets, beside published figures",
    "compare": "score several models, in one table and plot",
    "export": "write a model with fixed classes to a .pt2 or .onnx file",
    "vocabulary": "show how class names are read",
    "doctor": "say what is installed, what works, and how to get the rest",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code.

    Raises:
        SystemExit: 0 with ``--help``, 2 for arguments that are wrong.
    """
    arguments = sys.argv[1:] if arguments is None else [*arguments]
    name = _argument_parser().parse_args(arguments[:1]).command
    command = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    parser = command.argument_parser()
    parser.prog = f"escnet-d2 {name}"
    # Ends with --help and wrong arguments here, before torch is imported.
    parser.parse_args(arguments[1:])
    if name != "doctor":
        escnet_d2.register()
    return command.main(arguments[1:])


def _argument_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="escnet-d2",
        description="Open-vocabulary semantic segmentation: names in, a class for every pixel out.",
        epilog="\n".join(
            [
                "commands:",
                *(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()),
                "",
                "escnet-d2 COMMAND --help has an example and the options of each.",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of those below")
    parser.add_argument("--version", action="version", version=escnet_d2.__version__)
    return parser
