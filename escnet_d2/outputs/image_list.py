"""Images named by a text file, which is read as it is needed: a million take no memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from .image_files import ImageFile


class ImageList:
    """The images of a file with one path per line, in its order; blank lines are passed over.

    Names of outputs are the paths with their suffix, from the root on where they are absolute or
    lead out of a folder: those of ``/data/a/1.jpg`` begin with ``data/a/1.jpg``. That makes each
    unique without a look at the others, unless one file is named in two ways. Whether an
    image is there turns out when it is read.
    """

    def __init__(self, file: str | os.PathLike, index: int = 0, count: int = 1) -> None:
        """Counts the lines.

        Args:
            file: UTF-8; paths are absolute, or relative to the current folder.
            index: of the first image that is taken, below ``count``.
            count: one of so many is taken.

        Raises:
            OSError: the file cannot be read.
            ValueError: it names no image, or is not text.
        """
        self._file, self._index, self._count = file, index, count
        try:
            total = sum(1 for _ in self._lines())
        except UnicodeDecodeError as error:
            raise ValueError(f"{os.fspath(file)} is not a UTF-8 text file.") from error
        if not total:
            raise ValueError(f"{os.fspath(file)} names no image.")
        self._length = len(range(index, total, count))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[ImageFile]:
        for line in itertools.islice(self._lines(), self._index, None, self._count):
            path = Path(line)
            named = Path(os.path.abspath(path)) if os.pardir in path.parts else path
            yield ImageFile(path, named.relative_to(named.anchor).as_posix())

    def _lines(self) -> Iterator[str]:
        with open(self._file, encoding="utf-8-sig") as file:
            yield from filter(None, map(str.strip, file))
