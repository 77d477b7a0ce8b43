"""Plants small faults in source files, one at a time, and prints those that no test finds.

    python tools/mutate.py escnet_d2/modeling/criterion.py --tests tests/modeling/test_criterion.py
    python tools/mutate.py escnet_d2/layers/*.py --tests tests/layers --sample 50

A fault swaps an operator, a comparison, a branch or two arguments, changes a number by 1 or 10 %,
drops a term, or puts another reduction in place (amax -> mean). Errors are left alone: raise
statements and the conditions before them. Nothing is written: each fault lives in a fork of this
process, which has imported the libraries once. The exit code is 1 if a fault survives.
"""

from __future__ import annotations

import argparse
import ast
import copy
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
LIBRARIES = ("torch", "torchvision", "detectron2.modeling", "open_clip", "segment_anything")

SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.USub: ast.UAdd,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
NAMES = {
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "amax": "mean",
    "amin": "mean",
    "mean": "sum",
    "sum": "mean",
    "softmax": "sigmoid",
    "ceil": "floor",
    "round": "int",
    "int": "round",
    "any": "all",
    "all": "any",
}


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
        for index in range(len(node.values)):
            kept = node.values[:index] + node.values[index + 1 :]
            yield {"values": [*kept, copy.deepcopy(kept[-1])]}
    elif isinstance(node, ast.Compare):
        for index, found in enumerate(node.ops):
            if type(found) in SWAPS:
                ops = list(node.ops)
                ops[index] = SWAPS[type(found)]()
                yield {"ops": ops}
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield {"value": not node.value}
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield {"value": node.value + 1}
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield {"value": node.value * 1.1 or 0.1}
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield {"attr": NAMES[node.attr]}
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield {"id": NAMES[node.id]}
    elif isinstance(node, ast.IfExp):
        yield {"body": node.orelse, "orelse": node.body}
    elif isinstance(node, ast.If) and not isinstance(node.test, (ast.Compare, ast.BoolOp)):
        yield {"test": ast.UnaryOp(ast.Not(), node.test)}
    elif isinstance(node, ast.Call) and len(node.args) == 2:
        yield {"args": node.args[::-1]}


def fruitful(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes below one in which a fault may change a result."""
    if isinstance(node, ast.Raise) or (
        isinstance(node, ast.If) and all(isinstance(child, ast.Raise) for child in node.body)
    ):
        return
    yield node
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from fruitful(child)


def mutants(path: Path) -> Iterator[tuple[str, ast.Module]]:
    """Yields what is wrong and the faulty module; the next one undoes it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in list(fruitful(tree)):
        for fields in faults(node):
            before, saved = ast.unparse(node), dict(vars(node))
            vars(node).update(fields)
            ast.fix_missing_locations(tree)
            line = f"{path.relative_to(REPO)}:{getattr(node, 'lineno', 0)}"
            yield f"{line}: {before.splitlines()[0]} -> {ast.unparse(node).splitlines()[0]}", tree
            vars(node).clear()
            vars(node).update(saved)


def run_tests(tests: Sequence[str], path: Path | None, tree: ast.Module | None) -> None:
    """Runs tests in this process with a file replaced; exits with 0 where all pass."""
    get_code = SourceFileLoader.get_code

    def faulty_code(loader: SourceFileLoader, name: str) -> object:
        if path is not None and Path(loader.path) == path:
            return compile(tree, str(path), "exec")
        return get_code(loader, name)

    SourceFileLoader.get_code = faulty_code
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os._exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]))


def passes(tests: Sequence[str], limit: float, path: Path | None, tree: ast.Module | None) -> bool:
    """Tells whether tests pass within a time limit in seconds, in a fork."""
    process = multiprocessing.get_context("fork").Process(
        target=run_tests, args=(tests, path, tree)
    )
    process.start()
    process.join(limit)
    if process.is_alive():
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
    os.chdir(REPO)
    sys.path.insert(0, str(REPO))
    for library in LIBRARIES:
        importlib.import_module(library)

    start = time.monotonic()
    if not passes(args.tests, 3600, None, None):
        parser.error("the tests fail without any fault")
    limit = 20 + 3 * (time.monotonic() - start)
    tried, survivors = 0, []
    for path in (file.resolve() for file in args.files):
        number = sum(1 for _ in mutants(path))
        chosen = set(
            random.Random(args.seed).sample(range(number), min(args.sample or number, number))
        )
        for index, (description, tree) in enumerate(mutants(path)):
            if index in chosen:
                tried += 1
                if passes(args.tests, limit, path, tree):
                    survivors.append(description)
                    print(description, flush=True)
    print(f"{tried - len(survivors)} of {tried} faults found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
