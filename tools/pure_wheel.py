"""Rewrites a wheel as a pure-Python one: no compiled libraries, other requirements, any platform.

Some projects publish wheels for one interpreter only although the compiled part is optional. What
is left without that part runs anywhere, once the archive says so: a wheel is a zip file with some
metadata (https://packaging.python.org/specifications/binary-distribution-format/).
Standard library only, since this runs before anything is installed.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Callable, Collection, Sequence
from email import message_from_bytes
from email.message import Message
from pathlib import Path

COMPILED_SUFFIXES = (".so", ".pyd", ".dylib", ".dll")


def make_pure_wheel(
    source: Path,
    target_folder: Path,
    *,
    requirements: Sequence[str],
    drop_packages: Collection[str] = (),
) -> Path:
    """Writes a pure-Python copy of a wheel.

    Args:
        source: the wheel to read; left as it is.
        target_folder: where the new wheel goes; must exist.
        requirements: what the new wheel depends on, instead of all the old requirements and extras.
        drop_packages: top-level packages to leave out.

    Returns:
        Path of the new wheel, ``<name>-<version>-py3-none-any.whl``.

    Raises:
        ValueError: where `source` is no wheel.
    """
    if not zipfile.is_zipfile(source):
        raise ValueError(f"{source} is not a wheel: not a zip archive")
    with zipfile.ZipFile(source) as archive:
        info_folder = _info_folder(archive, source)
        files = {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.endswith("/") and _is_kept(name, info_folder, drop_packages)
        }
    _rewrite(files, f"{info_folder}/METADATA", _replace_requirements, requirements)
    _rewrite(files, f"{info_folder}/WHEEL", _replace_tags)
    if f"{info_folder}/top_level.txt" in files:
        _rewrite(files, f"{info_folder}/top_level.txt", _drop_lines, drop_packages)
    record = f"{info_folder}/RECORD"
    files[record] = _record(files, record)

    target = target_folder / f"{info_folder[: -len('.dist-info')]}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def _info_folder(archive: zipfile.ZipFile, source: Path) -> str:
    folders = {name.split("/")[0] for name in archive.namelist()}
    found = sorted(folder for folder in folders if folder.endswith(".dist-info"))
    if len(found) != 1:
        raise ValueError(f"{source} is not a wheel: expected one .dist-info folder, found {found}")
    return found[0]


def _is_kept(name: str, info_folder: str, drop_packages: Collection[str]) -> bool:
    top_level = name.split("/")[0]
    # RECORD is written anew; signatures of the old one would no longer hold.
    if top_level == info_folder and Path(name).stem == "RECORD":
        return False
    return top_level not in drop_packages and not name.endswith(COMPILED_SUFFIXES)


def _rewrite(files: dict, name: str, change: Callable[..., bytes], *arguments: object) -> None:
    if name not in files:
        raise ValueError(f"the wheel has no {name}")
    files[name] = change(files[name], *arguments)


def _replace_requirements(metadata: bytes, requirements: Sequence[str]) -> bytes:
    message = message_from_bytes(metadata)
    for header in ("Requires-Dist", "Provides-Extra"):
        del message[header]
    for requirement in requirements:
        message["Requires-Dist"] = requirement
    return _as_bytes(message)


def _replace_tags(wheel: bytes) -> bytes:
    message = message_from_bytes(wheel)
    for header in ("Root-Is-Purelib", "Tag", "Build"):
        del message[header]
    message["Root-Is-Purelib"] = "true"
    message["Tag"] = "py3-none-any"
    return _as_bytes(message)


def _as_bytes(message: Message) -> bytes:
    # Long lines stay in one piece: readers of wheels needn't know how e-mail folds them.
    return message.as_bytes(policy=message.policy.clone(max_line_length=0))


def _drop_lines(text: bytes, unwanted: Collection[str]) -> bytes:
    return "".join(f"{line}\n" for line in text.decode().split() if line not in unwanted).encode()


def _record(files: dict, record: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{record},,", ""]).encode()
