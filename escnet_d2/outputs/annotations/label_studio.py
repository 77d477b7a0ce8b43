"""Label Studio's tasks with brush masks in its own run lengths, and the interface they need."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from escnet_d2.io import atomic_text, write_text

from .labeled_image import ExportOptions, LabeledImage

# A mask is an image of four channels of 8 bits.
_CHANNELS, _WORD_BITS = 4, 8
# A run's length less one is written in one of these numbers of bits.
_LENGTH_BITS = (3, 6, 10, 16)


def write(folder: Path, images: Iterable[LabeledImage], options: ExportOptions) -> None:
    """Writes ``tasks.json`` to import, and ``label_config.xml`` to paste as labeling interface.

    The masks are predictions: Label Studio shows them and makes annotations of those accepted.
    """
    labels = "".join(
        f"    <Label value={quoteattr(options.class_names[index])} "
        f'background="#{bytes(options.colors[index]).hex()}"/>\n'
        for index in options.things
    )
    write_text(
        folder / "label_config.xml",
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n',
    )
    with atomic_text(folder / "tasks.json") as file:
        file.write("[")
        for number, image in enumerate(images):
            file.write(("," if number else "") + "\n" + json.dumps(_task(image, options)))
        file.write("\n]\n")


def _task(image: LabeledImage, options: ExportOptions) -> dict[str, object]:
    height, width = image.labels.shape
    results = [
        {
            "id": f"{number}",
            "type": "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": image.scores[index],
            "value": {
                "format": "rle",
                "rle": encode_rle(mask),
                "brushlabels": [options.class_names[index]],
            },
        }
        for number, (index, mask) in enumerate(image.masks(options))
    ]
    score = min((result["score"] for result in results), default=0.0)
    prediction = {"model_version": "escnet_d2", "score": score, "result": results}
    return {
        "data": {"image": options.image_prefix + quote(image.file)},
        "predictions": [prediction],
    }


def encode_rle(mask: np.ndarray) -> list[int]:
    """Encodes a mask as Label Studio's brush does (the rle-pack of thi.ng/umbrella).

    Bits: 32 for the number of values, 5 for the bits of a value less one, 4 times 4 for the sizes
    of lengths less one; then for each run a 1, 2 for which size, its length less one, its value.

    Args:
        mask: (H, W) bool.

    Returns:
        Bytes as numbers.
    """
    values = mask.ravel()
    borders = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate([[0], borders])
    lengths = _CHANNELS * np.diff(np.concatenate([starts, [values.size]]))
    header = [f"{_CHANNELS * values.size:032b}", f"{_WORD_BITS - 1:05b}"]
    sizes = [f"{bits - 1:04b}" for bits in _LENGTH_BITS]
    runs = chain.from_iterable(map(_run, lengths.tolist(), values[starts].tolist()))
    bits = "".join(chain(header, sizes, runs))
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def _run(length: int, value: bool) -> Iterable[str]:
    longest = 2 ** _LENGTH_BITS[-1]
    while length > 0:
        part = min(length, longest)
        kind = next(k for k, bits in enumerate(_LENGTH_BITS) if part <= 2**bits)
        yield f"1{kind:02b}{part - 1:0{_LENGTH_BITS[kind]}b}{255 if value else 0:0{_WORD_BITS}b}"
        length -= part
