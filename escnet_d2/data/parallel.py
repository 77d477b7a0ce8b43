"""One function applied to many files: on several processes, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any

from tqdm import tqdm

_CHUNK = 16


def map_files(
    function: Callable[[Any], Any], items: Sequence[Any], *, title: str, num_workers: int = 0
) -> Iterator[Any]:
    """Yields ``function(item)`` of each item, in order.

    Args:
        function: at the top level of a module, or a partial of such a function.
        items: must be picklable where there are workers.
        title: of the progress bar, which is shown on terminals only.
        num_workers: processes to use beside this one; 0 works in this one.
    """
    with ExitStack() as stack:
        results = map(function, items)
        if num_workers > 0:
            pool = stack.enter_context(ProcessPoolExecutor(num_workers))
            results = pool.map(function, items, chunksize=_CHUNK)
        # disable=None: no bar in a log file.
        yield from tqdm(results, total=len(items), desc=title, unit="file", disable=None)
