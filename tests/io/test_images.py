import os
import warnings

import numpy as np
import pytest
from PIL import Image

from escnet_d2.io import read_image, to_rgb

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def write(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp"])
def test_rgb_files(tmp_path, name):
    rgb = np.dstack([RAMP, RAMP.T.reshape(3, 4), 255 - RAMP])
    result = read_image(write(tmp_path / name, Image.fromarray(rgb), lossless=True))
    assert result.dtype == np.uint8
    assert result.flags.writeable
    assert np.array_equal(result, rgb)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB"])
def test_modes_become_three_channels(mode):
    image = Image.fromarray(np.dstack([RAMP] * 3)).convert(mode)
    assert np.array_equal(to_rgb(image), np.array(image.convert("RGB")))


def test_palette_colors_are_looked_up(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    for options, second in (({}, [40, 50, 60]), ({"transparency": 1}, [255, 255, 255])):
        path = write(tmp_path / "p.png", image, **options)
        assert read_image(path).tolist() == [[[10, 20, 30], second]]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_gray_is_scaled(tmp_path, name):
    deep = np.array([[0, 128, 129, 256, 257, 32896, 65535]], np.uint16)
    result = read_image(write(tmp_path / name, Image.fromarray(deep)))
    assert result[0, :, 0].tolist() == [0, 0, 1, 1, 1, 128, 255]
    assert np.array_equal(to_rgb(deep), result)
    assert np.array_equal(to_rgb(Image.fromarray(deep.astype(np.int32))), result)


def test_transparent_pixels_turn_white():
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    expected = [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    assert to_rgb(rgba).tolist() == expected
    assert to_rgb(Image.fromarray(rgba)).tolist() == expected
    assert to_rgb(rgba.astype(np.uint16) * 257).tolist() == expected


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a)[:, ::-1]),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation_of_files(tmp_path, orientation, turn):
    stored = np.dstack([RAMP] * 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / "a.png", Image.fromarray(stored), exif=exif)
    assert np.array_equal(read_image(path), turn(stored))
    # An open image is taken as it is.
    with Image.open(path) as image:
        assert np.array_equal(to_rgb(image), stored)


def test_broken_exif_is_ignored(tmp_path, caplog):
    exif = b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x01\x02"
    path = write(tmp_path / "a.jpg", Image.fromarray(RAMP), exif=exif, quality=100)
    assert np.abs(read_image(path)[:, :, 0].astype(int) - RAMP).max() < 10


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (Image.fromarray(np.array([[70000]], np.int32)), ValueError, "32-bit"),
        (Image.fromarray(np.zeros((2, 2), np.float32)), ValueError, "floating-point"),
        (np.zeros((2, 2), np.float32), ValueError, "uint8 or uint16"),
        (np.zeros((2, 2, 2), np.uint8), ValueError, r"\(H, W, 3\)"),
        (np.zeros((0, 2), np.uint8), ValueError, "empty"),
        ([[0]], TypeError, "numpy array or a PIL image"),
        ("photo.png", TypeError, "numpy array or a PIL image"),
    ],
)
def test_what_is_not_a_picture_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        to_rgb(image)


def test_results_share_no_memory_with_a_read_only_input():
    rgb = np.dstack([RAMP] * 3)
    rgb.flags.writeable = False
    to_rgb(rgb)[:] = 0
    assert rgb.any()


@pytest.mark.parametrize("size", [20, -40])
def test_damaged_files_are_named(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = write(tmp_path / "cut.jpg", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="cut.jpg"):
        read_image(path)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ValueError, match="pipe.jpg: it is not a regular file"):
        read_image(tmp_path / "pipe.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match="empty.jpg: the file is empty"):
        read_image(tmp_path / "empty.jpg")


def test_limit_on_the_number_of_pixels(tmp_path, monkeypatch):
    path = write(tmp_path / "big.png", Image.fromarray(np.zeros((10, 10), np.uint8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (10, 10, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ValueError, match="big.png.*100 pixels"):
        read_image(path)
