"""What is done already, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .image_files import ImageFile


@dataclass(frozen=True)
class DoneImage:
    """One image with its outputs written.

    Attributes:
        settings: hash of the settings of the run that wrote them.
        outputs: kinds of output written.
        source: size in bytes and modification time in ns of the image file.
        areas: pixels by class index, of the classes present.
    """

    settings: str
    outputs: frozenset[str]
    source: tuple[int, int]
    areas: dict[int, int]


class RunLog:
    """A file of JSON lines: one with the settings of each run, one per finished image.

    Lines are only ever appended, so that a killed run loses at most the last one.
    """

    def __init__(self, path: str | os.PathLike, settings: Mapping[str, object]) -> None:
        """Reads what earlier runs left.

        Args:
            path: the log; need not exist.
            settings: plain data on which the outputs depend.
        """
        self._path = Path(path)
        self._settings = dict(settings)
        self._settings_hash = _hash(settings)
        self._done: dict[str, DoneImage] = {}
        self._earlier_settings: dict[str, dict] = {}
        self._last_settings: str | None = None
        if self._path.is_file():
            self._read()

    def start(self, *, resume: bool) -> None:
        """Opens a run.

        Args:
            resume: keep what is known of earlier runs; otherwise the log starts anew.

        Raises:
            OSError: the log cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            self._done.clear()
            self._path.write_text("", encoding="utf-8")
        elif self._path.is_file() and not self._path.read_bytes().endswith(b"\n"):
            # A line cut short by a killed run must not swallow the next one.
            with self._path.open("ab") as file:
                file.write(b"\n")
        self._append({"run": self._settings_hash, "settings": self._settings})

    def changed_settings(self) -> list[str]:
        """Names of the settings in which the last run differed from this one."""
        earlier = self._earlier_settings.get(self._last_settings or "", self._settings)
        keys = sorted({*earlier, *self._settings})
        # Through JSON, as tuples come back as lists.
        now = json.loads(json.dumps(self._settings))
        return [key for key in keys if earlier.get(key) != now.get(key)]

    def find(self, image: ImageFile, outputs: Iterable[str]) -> DoneImage | None:
        """Looks up an image whose outputs of these kinds are up to date as far as the log knows.

        Args:
            image: the image; its file must not have changed since.
            outputs: the kinds wanted.
        """
        done = self._done.get(image.name)
        if (
            done is None
            or done.settings != self._settings_hash
            or not done.outputs.issuperset(outputs)
            or not _has_stamp(image.path, done.source)
        ):
            return None
        return done

    def knows(self, image: ImageFile) -> bool:
        """Whether an earlier run finished an image of this name, whatever its settings."""
        return image.name in self._done

    def others(self, images: Iterable[ImageFile]) -> dict[str, dict]:
        """Images that earlier runs finished and that are not among these: the settings of each."""
        names = {image.name for image in images}
        return {
            name: self._earlier_settings.get(done.settings, {})
            for name, done in self._done.items()
            if name not in names
        }

    def add(
        self,
        image: ImageFile,
        outputs: Iterable[str],
        areas: Mapping[int, int],
        source: tuple[int, int],
    ) -> None:
        """Notes that an image's outputs are written.

        Args:
            image: the image.
            outputs: the kinds written.
            areas: pixels by class index, of the classes present.
            source: :func:`source_stamp` of the file from before it was read, so that an image that
                changed meanwhile is not taken for done.

        Raises:
            OSError: the log cannot be written.
        """
        earlier = self._done.get(image.name)
        kinds = frozenset(outputs)
        if earlier and (earlier.settings, earlier.source) == (self._settings_hash, source):
            kinds |= earlier.outputs
        self._done[image.name] = DoneImage(self._settings_hash, kinds, source, dict(areas))
        self._append(
            {
                "image": image.name,
                "run": self._settings_hash,
                "outputs": sorted(kinds),
                "source": source,
                "areas": areas,
            }
        )

    def _append(self, line: Mapping[str, object]) -> None:
        # ASCII: names that are not UTF-8 come back as they were.
        with self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")

    def _read(self) -> None:
        for text in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                if "settings" in line:
                    self._earlier_settings[line["run"]] = line["settings"]
                    self._last_settings = line["run"]
                else:
                    self._done[line["image"]] = DoneImage(
                        settings=line["run"],
                        outputs=frozenset(line["outputs"]),
                        source=tuple(line["source"]),
                        areas={int(index): area for index, area in line["areas"].items()},
                    )
            except (ValueError, KeyError, TypeError, AttributeError):
                # The end of a killed run; its image is simply done again.
                continue


def _hash(settings: Mapping[str, object]) -> str:
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def source_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in ns of a file, by which a change is noticed.

    Raises:
        OSError: the file has gone, or cannot be reached.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _has_stamp(path: Path, stamp: tuple[int, int]) -> bool:
    try:
        return source_stamp(path) == stamp
    except OSError:
        # It has gone since it was listed; reading it will say so.
        return False
