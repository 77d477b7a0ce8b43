"""Images named by a text file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from escnet_d2.outputs import ImageList


def test_names_and_shares(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("\ufeffa/1.jpg\n\n  /data/b.c/1.png  \n../a/1.jpg\na/1.png", encoding="utf-8")
    images = list(ImageList(file))
    assert [str(image.path) for image in images] == [
        "a/1.jpg", "/data/b.c/1.png", "../a/1.jpg", "a/1.png"
    ]  # fmt: skip
    outside = Path.cwd().parent.relative_to("/").as_posix()
    assert [image.name for image in images] == [
        "a/1.jpg", "data/b.c/1.png", f"{outside}/a/1.jpg", "a/1.png"
    ]  # fmt: skip
    shares = [ImageList(file, index, 3) for index in range(3)]
    assert [len(share) for share in shares] == [2, 1, 1]
    assert [list(share) for share in shares] == [images[0::3], images[1::3], images[2::3]]


def test_a_long_list_takes_no_memory(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("".join(f"photos/{number:08}.jpg\n" for number in range(100_000)))
    tracemalloc.start()
    share = ImageList(file, 1, 10)
    assert sum(1 for _ in share) == len(share) == 10_000
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()


def test_mistakes(tmp_path):
    file = tmp_path / "list.txt"
    with pytest.raises(FileNotFoundError):
        ImageList(file)
    file.write_text("\n \n")
    with pytest.raises(ValueError, match=r"list\.txt names no image"):
        ImageList(file)
    file.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"list\.txt is not a UTF-8 text file"):
        ImageList(file)
