import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from escnet_d2.io import read_label_map

VALUES = np.array([[0, 1, 2], [3, 254, 255]])


def write_png(path, *, bits, row, width):
    """A gray PNG of one row with the given bit depth, which Pillow itself doesn't write."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("suffix", "dtype", "extra"),
    [
        (".png", np.uint8, 7),
        (".tif", np.uint8, 7),
        (".png", np.uint16, 65535),
        (".tif", np.uint16, 459),
        (".tif", np.int32, 70000),
    ],
)
def test_integer_images_keep_their_values(tmp_path, suffix, dtype, extra):
    labels = VALUES.astype(dtype)
    labels[0, 0] = extra
    path = tmp_path / f"labels{suffix}"
    Image.fromarray(labels).save(path)
    read = read_label_map(path)
    assert read.dtype == np.int64
    np.testing.assert_array_equal(read, labels.astype(np.int64))


def test_palette_image_gives_indices_not_colors(tmp_path):
    image = Image.fromarray(VALUES.astype(np.uint8)).convert("P")
    image.putdata(VALUES.ravel().tolist())
    image.putpalette([(i * 7) % 256 for i in range(768)])
    image.save(tmp_path / "palette.png")
    assert Image.open(tmp_path / "palette.png").mode == "P"
    np.testing.assert_array_equal(read_label_map(tmp_path / "palette.png"), VALUES)


def test_one_bit_image(tmp_path):
    write_png(tmp_path / "bits.png", bits=1, row=b"\x50", width=4)
    np.testing.assert_array_equal(read_label_map(tmp_path / "bits.png"), [[0, 1, 0, 1]])


@pytest.mark.parametrize(("bits", "row"), [(2, b"\x1b"), (4, b"\x01\x23")])
def test_stretched_gray_is_refused(tmp_path, bits, row):
    write_png(tmp_path / "gray.png", bits=bits, row=row, width=4)
    with pytest.raises(ValueError, match=r"gray\.png.*ambiguous"):
        read_label_map(tmp_path / "gray.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
def test_images_without_labels_are_refused(tmp_path, mode):
    path = tmp_path / "colors.tif"
    Image.new(mode, (3, 2)).save(path)
    with pytest.raises(ValueError, match=rf"colors\.tif has mode {mode}"):
        read_label_map(path)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read_label_map(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png cannot be read"):
        read_label_map(tmp_path / "text.png")
    whole = tmp_path / "whole.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"cut\.png cannot be read"):
        read_label_map(tmp_path / "cut.png")
