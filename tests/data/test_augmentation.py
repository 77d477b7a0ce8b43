import colorsys

import numpy as np
from detectron2.data import transforms as T
from PIL import Image

from escnet_d2.data.augmentation import (
    PAD_GRAY,
    UNLABELED,
    AlignedResizeShortestEdge,
    AlignedResizeTransform,
    PadToSize,
    PhotometricDistortion,
    PhotometricTransform,
)


def test_labels_of_any_type_resize_like_the_image():
    # A 300-class map has the edge of the image where the image has it.
    labels = np.zeros((6, 9), np.int32)
    labels[2:, 3:] = 299
    image = np.repeat(np.where(labels == 0, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    transform = AlignedResizeTransform(6, 9, 12, 18)
    assert np.array_equal(
        transform.apply_segmentation(labels) == 299, transform.apply_image(image)[:, :, 0] > 127
    )
    # Enlarging and shrinking by whole factors keeps every label in place.
    back = AlignedResizeTransform(12, 18, 6, 9)
    assert np.array_equal(back.apply_segmentation(transform.apply_segmentation(labels)), labels)
    assert AlignedResizeTransform(1, 5, 1, 1).apply_segmentation(np.arange(5)[None]).item() == 2


def test_thin_image_keeps_a_pixel():
    for size, expected in (((1, 10000), (1, 128)), ((10000, 1), (128, 1))):
        image = np.zeros((*size, 3), np.uint8)
        transform = AlignedResizeShortestEdge(64, 128).get_transform(image)
        assert transform.apply_image(image).shape == (*expected, 3)


def test_shortest_edge_zero_keeps_the_size():
    image = np.zeros((5, 7, 3), np.uint8)
    assert AlignedResizeShortestEdge(0, 128).get_transform(image).apply_image(image) is image


def test_pad_to_size():
    image = np.zeros((2, 9, 3), np.uint8)
    labels = np.zeros((2, 9), np.int32)
    padded = T.AugInput(image, sem_seg=labels)
    PadToSize(3, 6)(padded)
    assert padded.image.shape == (3, 9, 3)
    assert (padded.image[2:] == PAD_GRAY).all()
    assert (padded.sem_seg[2:] == UNLABELED).all()
    assert (padded.sem_seg[:2] == 0).all()
    padded = T.AugInput(image, sem_seg=labels)
    PadToSize(2, 10)(padded)
    assert (padded.image[:, 9] == PAD_GRAY).all()
    assert padded.sem_seg.tolist() == [[0] * 9 + [UNLABELED]] * 2


def pixel(*rgb):
    return np.array([[rgb]], np.uint8)


def test_brightness_and_contrast_clip():
    assert PhotometricTransform(brightness=20).apply_image(pixel(0, 100, 250)).tolist() == [
        [[20, 120, 255]]
    ]
    assert PhotometricTransform(contrast=1.5).apply_image(pixel(10, 101, 200)).tolist() == [
        [[15, 152, 255]]
    ]


def test_contrast_order():
    bright_then_contrast = PhotometricTransform(brightness=10, contrast=0.5, saturation=0.0)
    last = PhotometricTransform(brightness=10, contrast=0.5, saturation=0.0, contrast_last=True)
    # Saturation 0 leaves max(RGB) = 110, so both orders give (100 + 10) / 2.
    for transform in (bright_then_contrast, last):
        assert transform.apply_image(pixel(20, 60, 100)).tolist() == [[[55, 55, 55]]]
    clipped_first = PhotometricTransform(contrast=2.0, saturation=0.5)
    clipped_last = PhotometricTransform(contrast=2.0, saturation=0.5, contrast_last=True)
    image = pixel(200, 100, 100)
    assert not np.array_equal(clipped_first.apply_image(image), clipped_last.apply_image(image))


def test_hue_and_saturation_against_colorsys():
    rgb = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    result = PhotometricTransform(hue=30.0, saturation=0.7).apply_image(rgb)
    expected = np.empty(rgb.shape)
    for index in np.ndindex(8, 8):
        h, s, v = colorsys.rgb_to_hsv(*(rgb[index] / 255))
        expected[index] = np.array(colorsys.hsv_to_rgb((h + 30 / 360) % 1, s * 0.7, v)) * 255
    # 8-bit hue steps are 1.4 degrees wide.
    assert np.abs(result - expected).max() <= 6
    hsv = np.array(Image.fromarray(rgb).convert("HSV"))
    hsv[:, :, 1] = np.rint(0.5 * hsv[:, :, 1])
    half = Image.frombytes("HSV", (8, 8), hsv.tobytes()).convert("RGB")
    assert np.array_equal(PhotometricTransform(saturation=0.5).apply_image(rgb), np.array(half))


def test_half_a_turn_of_the_hue():
    assert PhotometricTransform(hue=180).apply_image(pixel(255, 0, 0)).tolist() == [[[0, 252, 255]]]


def test_distortion_is_drawn_from_numpys_generator():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    results = []
    for seed in (1, 1, 2):
        np.random.seed(seed)  # noqa: NPY002
        results.append(PhotometricDistortion().get_transform(image).apply_image(image))
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_distortion_draws_each_change_half_of_the_time_within_its_range():
    np.random.seed(0)  # noqa: NPY002
    distortion = PhotometricDistortion()
    drawn = [distortion.get_transform(np.zeros((1, 1, 3), np.uint8)) for _ in range(2000)]
    for name, unchanged, low, high in (
        ("brightness", 0.0, -32, 32),
        ("contrast", 1.0, 0.5, 1.5),
        ("saturation", 1.0, 0.5, 1.5),
        ("hue", 0.0, -36, 36),
    ):
        values = np.array([getattr(transform, name) for transform in drawn])
        assert 0.45 < np.mean(values != unchanged) < 0.55
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    assert 0.45 < np.mean([transform.contrast_last for transform in drawn]) < 0.55
