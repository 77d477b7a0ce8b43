"""Segmentors on CLIP that look at an image as a whole, through a sliding window, or both."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.layers import MAX_SIDE
from escnet_d2.modeling.class_scores import resize_scores
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.structures import Vocabulary

from .inference_options import InferenceOptions
from .segmentor import OpenVocabSegmentor

# Normalised images of one size, (n, 3, h, w), to class scores, (n, classes, 4 H, 4 W).
Predict = Callable[[Tensor], Tensor]


class ViewSegmentor(OpenVocabSegmentor):
    """Cuts images into the views that TEST asks for; subclasses score a batch of views."""

    def __init__(
        self,
        *,
        clip: ClipEncoder,
        resolution: int,
        inference: InferenceOptions,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Sets what the views need.

        Args:
            clip: image and text encoder.
            resolution: side of the square in pixels that CLIP sees.
            inference: how images are tested.
            vocabulary: default vocabulary.

        Raises:
            ValueError: options out of range; the message names the key.
        """
        grid, rest = divmod(resolution, clip.patch_size)
        if rest or not 1 <= grid <= MAX_SIDE:
            raise ValueError(
                f"MODEL.CLIP.RESOLUTION must be a multiple of the patch size {clip.patch_size}, "
                f"1 to {MAX_SIDE} patches; got {resolution}."
            )
        inference.check(clip.patch_size)
        mean, std = clip.pixel_statistics
        super().__init__(
            pixel_mean=mean,
            pixel_std=std,
            label_map_only=inference.label_map_only,
            vocabulary=vocabulary,
        )
        self.clip = clip
        self.resolution = resolution
        self.inference = inference

    @abstractmethod
    def _predictor(self, vocabulary: Vocabulary) -> Predict:
        """What scores a batch of views of one size for a vocabulary."""

    def _group_scores(self, images: list[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
        return self._image_scores(images, self._predictor(vocabulary))

    def _image_scores(self, images: list[Tensor], predict: Predict) -> list[Tensor]:
        """Scores of each image at low resolution, (classes, h, w)."""
        if self.inference.sliding_window:
            windows = [self._sliding_window_scores(image, predict) for image in images]
            if not self.inference.global_view:
                return windows
            views = self._whole_image_scores(images, predict)
            return [
                (window + resize_scores(view, window.shape[1:])) / 2
                for window, view in zip(windows, views)
            ]
        return self._whole_image_scores(images, predict)

    def _whole_image_scores(self, images: list[Tensor], predict: Predict) -> list[Tensor]:
        """One view of each image; those of one input size share a forward pass."""
        by_size = defaultdict(list)
        for index, image in enumerate(images):
            size = self.inference.input_size(image.shape[1:], self.resolution, self.clip.patch_size)
            by_size[size].append(index)
        scores: list[Tensor | None] = [None] * len(images)
        for size, indices in by_size.items():
            batch = torch.stack([resize_image(images[index], size) for index in indices])
            for index, score in zip(indices, predict(batch)):
                scores[index] = score
        return scores

    def _sliding_window_scores(self, image: Tensor, predict: Predict) -> Tensor:
        options = self.inference
        if any(options.window_image_size):
            image = resize_image(image, options.window_image_size)
        return options.slide(
            image,
            predict,
            window=options.window_size or self.resolution,
            patch=self.clip.patch_size,
        )


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, h, w) to (3, *size); antialiased, since photos are mostly shrunk."""
    size = tuple(size)
    if image.shape[1:] == size:
        return image
    resized = F.interpolate(
        image.unsqueeze(0), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return resized.squeeze(0)
