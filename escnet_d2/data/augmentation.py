"""Augmentations that Detectron2 lacks or that need care with label maps.

All random numbers come from numpy's global generator, as in Detectron2, so that whoever seeds it
fixes the augmentation.
"""

from __future__ import annotations

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform, PadTransform, Transform
from PIL import Image

# The value of unlabeled pixels while a label map is transformed: below every class index.
UNLABELED = -1
PAD_GRAY = 128


class AlignedResizeTransform(T.ResizeTransform):
    """Resizes the image as Detectron2 does, and label maps of any integer type without a shift.

    Detectron2 hands label maps that are not uint8 to torch's nearest mode, which rounds towards the
    upper left: half a source pixel away from the bilinear image. Here both are center-aligned.
    """

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Picks the label under the center of each new pixel: (h, w) to (new_h, new_w)."""
        rows = _source_index(self.h, self.new_h)
        columns = _source_index(self.w, self.new_w)
        return segmentation[rows[:, None], columns[None, :]]


class AlignedResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's ResizeShortestEdge with :class:`AlignedResizeTransform`; no side becomes 0."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draws the size; a shortest edge of 0 keeps the image as it is."""
        transform = super().get_transform(image)
        if not isinstance(transform, T.ResizeTransform):
            return transform
        # An image of 1 x 10,000 pixels would round to a height of 0 under max_size.
        height, width = max(transform.new_h, 1), max(transform.new_w, 1)
        return AlignedResizeTransform(transform.h, transform.w, height, width, transform.interp)


class PadToSize(T.Augmentation):
    """Pads images that are smaller than the crop, so that every training crop has the same size.

    The image is padded at the right and bottom with gray, the label map with ``UNLABELED``.
    """

    def __init__(self, height: int, width: int) -> None:
        """Sets the smallest size of the result, in pixels."""
        super().__init__()
        self.height = height
        self.width = width

    def get_transform(self, image: np.ndarray) -> Transform:
        """Pads what is missing of ``image``, an array of shape (h, w, 3)."""
        h, w = image.shape[:2]
        bottom, right = max(self.height - h, 0), max(self.width - w, 0)
        if bottom == 0 and right == 0:
            return NoOpTransform()
        return PadTransform(0, 0, right, bottom, w, h, pad_value=PAD_GRAY, seg_pad_value=UNLABELED)


class PhotometricTransform(Transform):
    """Changes brightness, contrast, saturation and hue of a uint8 RGB image by given amounts."""

    def __init__(
        self,
        *,
        brightness: float = 0.0,
        contrast: float = 1.0,
        saturation: float = 1.0,
        hue: float = 0.0,
        contrast_last: bool = False,
    ) -> None:
        """Sets the amounts; the defaults leave the image as it is.

        Args:
            brightness: added to every channel, in gray levels of 0..255.
            contrast: factor of every channel.
            saturation: factor of the saturation in HSV.
            hue: shift of the hue in HSV, in degrees.
            contrast_last: apply the contrast after saturation and hue instead of before.
        """
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.contrast_last = contrast_last

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Returns the changed image, uint8 of shape (H, W, 3), like ``img``."""
        img = _scale_and_shift(img, 1.0, self.brightness)
        if not self.contrast_last:
            img = _scale_and_shift(img, self.contrast, 0.0)
        img = self._apply_hsv(img)
        if self.contrast_last:
            img = _scale_and_shift(img, self.contrast, 0.0)
        return img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Returns ``coords``: colors move nothing."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Returns ``segmentation``: colors change no label."""
        return segmentation

    def _apply_hsv(self, img: np.ndarray) -> np.ndarray:
        # The way to 8-bit HSV and back rounds, so leave it out where nothing changes.
        if self.saturation == 1.0 and self.hue == 0.0:
            return img
        hsv = np.array(Image.fromarray(np.ascontiguousarray(img)).convert("HSV"))
        hue_shift = round(self.hue * 256 / 360) % 256
        hsv[:, :, 0] += np.uint8(hue_shift)  # Wraps around at 256, as the hue does.
        hsv[:, :, 1] = _scale_and_shift(hsv[:, :, 1], self.saturation, 0.0)
        height, width = hsv.shape[:2]
        return np.array(Image.frombytes("HSV", (width, height), hsv.tobytes()).convert("RGB"))


class PhotometricDistortion(T.Augmentation):
    """Color augmentation of the SSD detector (Liu et al., ECCV 2016, section 2.2 and its code).

    Each of brightness, contrast, saturation and hue changes with probability 1/2, by an amount
    drawn evenly from its range; contrast comes before or after saturation and hue, at random.
    """

    BRIGHTNESS = (-32.0, 32.0)
    CONTRAST = (0.5, 1.5)
    SATURATION = (0.5, 1.5)
    HUE_DEGREES = (-36.0, 36.0)

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draws the amounts for ``image``."""
        return PhotometricTransform(
            brightness=self._draw(self.BRIGHTNESS, unchanged=0.0),
            contrast=self._draw(self.CONTRAST, unchanged=1.0),
            saturation=self._draw(self.SATURATION, unchanged=1.0),
            hue=self._draw(self.HUE_DEGREES, unchanged=0.0),
            contrast_last=self._toss(),
        )

    def _draw(self, interval: tuple[float, float], *, unchanged: float) -> float:
        return float(self._rand_range(*interval)) if self._toss() else unchanged

    def _toss(self) -> bool:
        return bool(self._rand_range() < 0.5)


def _scale_and_shift(channel: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """Returns ``channel * factor + shift`` of uint8 values, rounded and clipped."""
    table = np.clip(np.rint(np.arange(256) * factor + shift), 0, 255).astype(np.uint8)
    return table[channel]


def _source_index(size: int, new_size: int) -> np.ndarray:
    """Finds the source pixel under the center of each of ``new_size`` pixels."""
    # In integers, so that no rounding can pick the neighbor: floor((i + 1/2) * size / new_size).
    return (2 * np.arange(new_size) + 1) * size // (2 * new_size)
