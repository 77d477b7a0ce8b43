"""Sections of Markdown files that programs write, between marks that people leave alone."""

from __future__ import annotations

from pathlib import Path


def replace_section(path: Path, name: str, content: str) -> None:
    """Puts text between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` of a file.

    Args:
        path: the file, which has each mark once.
        name: of the section.
        content: Markdown; replaces what was there.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file does not have the two marks in this order, once each.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = path.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{path}: expected the lines {begin} and {end}, in this order, once each.")
    before, after = text[: text.index(begin)], text[text.index(end) :]
    path.write_text(f"{before}{begin}\n\n{content.strip()}\n\n{after}", encoding="utf-8")
