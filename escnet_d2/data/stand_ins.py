"""Drawn images in the place of a data set that is not on this machine, to measure speed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

# Height and width of most photos of COCO.
_SIZE = (480, 640)
# Labels are squares of this side: a dozen classes at most, as photos show.
_SQUARE = 160


@contextmanager
def replaced_samples(samples: Mapping[str, Sequence[dict[str, str]]]) -> Iterator[None]:
    """Lets Detectron2's catalog list other samples of data sets, whose metadata stay.

    Args:
        samples: by the name of a registered data set.
    """
    before = {name: DatasetCatalog[name] for name in samples}
    for name, dicts in samples.items():
        DatasetCatalog[name] = lambda dicts=dicts: list(dicts)
    try:
        yield
    finally:
        DatasetCatalog.update(before)


def draw_samples(name: str, folder: Path, count: int) -> list[dict[str, str]]:
    """Draws photos and label maps of a data set's classes, of the size of photos.

    Args:
        name: a registered data set.
        folder: of the files; is created.
        count: how many.

    Returns:
        Samples as the data set lists them.
    """
    folder.mkdir(parents=True)
    num_classes = len(MetadataCatalog.get(name).stuff_classes)
    generator = np.random.default_rng(0)
    samples = []
    for index in range(count):
        # Blurred noise with a grain takes JPEG's decoder about as long as a photo.
        coarse = generator.integers(0, 256, (_SIZE[0] // 16, _SIZE[1] // 16, 3), dtype=np.uint8)
        photo = np.asarray(Image.fromarray(coarse).resize(_SIZE[::-1], Image.Resampling.BICUBIC))
        photo = np.clip(photo + generator.normal(0, 8, photo.shape), 0, 255).astype(np.uint8)
        squares = generator.integers(0, num_classes, (_SIZE[0] // _SQUARE, _SIZE[1] // _SQUARE))
        labels = squares.repeat(_SQUARE, 0).repeat(_SQUARE, 1)
        files = folder / f"{index}.jpg", folder / f"{index}.png"
        Image.fromarray(photo).save(files[0], quality=90)
        Image.fromarray(labels.astype(np.uint8 if num_classes <= 256 else np.uint16)).save(files[1])
        samples.append({"file_name": str(files[0]), "sem_seg_file_name": str(files[1])})
    return samples
