"""Tells from its first bytes what a file is, so that a wrong one can be refused by its looks."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

_HEAD_BYTES = 512
_HTML_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")
_PICKLE_PROTOCOLS = range(2, 6)


class FileType(Enum):
    """What a file looks like; the value is a phrase for messages."""

    ZIP = "a zip archive"
    PICKLE = "a pickle"
    SAFETENSORS = "a safetensors file"
    EMPTY = "an empty file"
    ZEROS = "zero bytes, as an interrupted copy leaves them"
    HTML = "an HTML page, as a login or error page would be"
    LFS_POINTER = "a Git LFS pointer, not the file that it stands for"
    COMPRESSED = "a gzip archive"
    TEXT = "text"
    UNKNOWN = "data in no format that weights come in"

    @property
    def can_hold_weights(self) -> bool:
        """Whether weights come in files of this type."""
        return self in (FileType.ZIP, FileType.PICKLE, FileType.SAFETENSORS)


def identify(path: Path) -> FileType:
    """Looks at the beginning of a file.

    Args:
        path: the file.

    Returns:
        Its type; a type that can hold weights is no promise that the rest of the file is sound.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        return FileType.EMPTY
    return _identify_binary(head) or _identify_text(head)


def _identify_binary(head: bytes) -> FileType | None:
    if head.startswith(b"PK\x03\x04"):
        return FileType.ZIP
    if head.startswith(b"\x1f\x8b"):
        return FileType.COMPRESSED
    if len(head) > 1 and head[0] == 0x80 and head[1] in _PICKLE_PROTOCOLS:
        return FileType.PICKLE
    # safetensors: the length of a JSON header in eight bytes, then the header.
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return FileType.SAFETENSORS
    return FileType.ZEROS if not head.strip(b"\0") else None


def _identify_text(head: bytes) -> FileType:
    start = head.lstrip().lower()
    if start.startswith(_HTML_STARTS):
        return FileType.HTML
    if start.startswith(b"version https://git-lfs"):
        return FileType.LFS_POINTER
    # The last character may be cut in half.
    text = head.decode("utf-8", errors="ignore")
    is_utf8 = len(text.encode()) >= len(head) - 3
    is_readable = all(letter.isprintable() or letter.isspace() for letter in text)
    return FileType.TEXT if is_utf8 and is_readable else FileType.UNKNOWN
