"""Plants small faults in source files, one at a time, and prints those that no test finds.

    python tools/mutate.py escnet_d2/modeling/criterion.py --tests tests/modeling/test_criterion.py
    python tools/mutate.py escnet_d2/layers/*.py --tests tests/layers --sample 50

A fault swaps an operator, a comparison, a branch or two arguments, changes a number by 1 or 10 %,
drops a term, or puts another reduction in place (amax -> mean). Checks are left alone: raise
statements, the conditions before them, and functions that are called check_... . Nothing is
written: each fault lives in a fork of this process, which has imported the libraries once. The exit
code is 1 if a fault survives.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
# Imported once, before the forks. Fewer of pytest's plugins start faster, too.
LIBRARIES = ("torchvision", "detectron2.engine", "open_clip", "segment_anything", "hypothesis")
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"


PAIRS = (
    *((ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.BitAnd, ast.BitOr), (ast.And, ast.Or)),
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)),
    *(("max", "min"), ("maximum", "minimum"), ("mean", "sum"), ("any", "all")),
)
SWAPS = {ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.USub: ast.UAdd}
SWAPS |= {"amax": "mean", "amin": "mean", "softmax": "sigmoid", "ceil": "floor"}
SWAPS |= dict(PAIRS) | {second: first for first, second in PAIRS}


def faults(node: ast.AST) -> Iterator[dict[str, object]]:
    """Yields fields of a node that make it faulty."""
    operator = type(getattr(node, "op", None))
    if operator in SWAPS:
        yield {"op": SWAPS[operator]()}
    if isinstance(node, ast.BinOp) and operator in (ast.Add, ast.Sub, ast.Mult, ast.Div):
        neutral = ast.Constant(1 if operator in (ast.Mult, ast.Div) else 0)
        yield {"right": neutral}
        if operator in (ast.Add, ast.Mult):
            yield {"left": neutral}
    elif isinstance(node, ast.BoolOp):
        for kept in node.values:
            yield {"values": [kept, kept]}
    elif isinstance(node, ast.Compare):
        for i, found in enumerate(node.ops):
            if type(found) in SWAPS:
                yield {"ops": [*node.ops[:i], SWAPS[type(found)](), *node.ops[i + 1 :]]}
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield {"value": not node.value}
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield {"value": node.value + 1}
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield {"value": node.value * 1.1 or 0.1}
    elif isinstance(node, ast.Attribute) and node.attr in SWAPS:
        yield {"attr": SWAPS[node.attr]}
    elif isinstance(node, ast.Name) and node.id in SWAPS:
        yield {"id": SWAPS[node.id]}
    elif isinstance(node, ast.IfExp):
        yield {"body": node.orelse, "orelse": node.body}
    elif isinstance(node, ast.If) and not isinstance(node.test, (ast.Compare, ast.BoolOp)):
        yield {"test": ast.UnaryOp(ast.Not(), node.test)}
    elif isinstance(node, ast.Call) and len(node.args) == 2:
        yield {"args": node.args[::-1]}


def is_check(node: ast.AST) -> bool:
    """Tells whether a node does no more than refuse what it is given."""
    if isinstance(node, ast.If):
        return all(isinstance(child, ast.Raise) for child in node.body)
    name = ast.unparse(node.func) if isinstance(node, ast.Call) else getattr(node, "name", "")
    return isinstance(node, ast.Raise) or name.lstrip("_").startswith("check_")


def all_faults(node: ast.AST) -> Iterator[tuple[ast.AST, dict[str, object]]]:
    """Yields the faults of a node and of what is below it, each with its node."""
    if is_check(node):
        return
    yield from ((node, fields) for fields in faults(node))
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from all_faults(child)


def passes(tests: Sequence[str], limit: float, path: Path | None, code: object) -> bool:
    """Tells whether tests pass within a time limit in seconds, in a fork with a file replaced."""

    def run() -> None:
        get_code = SourceFileLoader.get_code
        SourceFileLoader.get_code = lambda loader, name: (
            code if Path(loader.path) == path else get_code(loader, name)
        )
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os._exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(limit)
    process.kill()
    process.join()
    return process.exitcode == 0


def main() -> int:
    """Runs the program; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--tests", nargs="+", required=True, metavar="PATH", help="nearest first")
    parser.add_argument("--sample", type=int, help="at most this many faults of each file")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.path.insert(0, str(REPO))
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()

    start = time.monotonic()
    if not passes(args.tests, 3600, None, None):
        parser.error("the tests fail without any fault")
    limit = 20 + 3 * (time.monotonic() - start)
    survived = []
    for path in (file.resolve() for file in args.files):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        chosen = list(all_faults(tree))
        random.Random(args.seed).shuffle(chosen)
        for node, fields in chosen[: args.sample]:
            saved, before = dict(vars(node)), ast.unparse(node).splitlines()[0]
            vars(node).update(fields)
            code = compile(ast.fix_missing_locations(tree), str(path), "exec")
            survived.append(passes(args.tests, limit, path, code))
            if survived[-1]:
                after = ast.unparse(node).splitlines()[0]
                print(f"{os.path.relpath(path)}:{node.lineno}: {before} -> {after}", flush=True)
            vars(node).clear()
            vars(node).update(saved)
    print(f"{survived.count(False)} of {len(survived)} faults found")
    return int(any(survived))


if __name__ == "__main__":
    sys.exit(main())
