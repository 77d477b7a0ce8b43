"""Segmentation of photos by class names, as a Python API."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Union

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling import build_model

from escnet_d2.config import synonym_mode
from escnet_d2.data import resolve_vocabulary
from escnet_d2.data.region_masks import RegionMasks
from escnet_d2.data.semantic_mapper import build_augmentations, transformed_masks
from escnet_d2.io import ImageInput, VideoReader, VideoSource, image_pixels
from escnet_d2.outputs import SegmentedFrame, SegmentedImage
from escnet_d2.structures import Vocabulary
from escnet_d2.weights import PUBLISHED_NAMES, hub_weights_file, shipped_config

from .checkpoint import TrainingCheckpointer
from .compilation import compile_regions
from .config_checks import check_inference_config
from .identify import checkpoint_config
from .model_description import lacks_weights
from .precision import INFERENCE_DTYPES, autocast
from .setup import load_config

VocabularyInput = Union[str, os.PathLike, Sequence[Union[str, Sequence[str]]], Vocabulary]

logger = logging.getLogger(__name__)


def inference_config(
    config: str | os.PathLike | CfgNode | None = None,
    *,
    weights: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    opts: Sequence[object] = (),
) -> CfgNode:
    """Returns the frozen configuration of an :class:`OpenVocabPredictor`, whose arguments it takes.

    Raises:
        FileNotFoundError: no such configuration.
        ValueError: an unknown key or value.
        WeightsError: as :func:`escnet_d2.engine.checkpoint_config`.
    """
    if device is not None:
        opts = (*opts, "MODEL.DEVICE", str(device))
    if config is None:
        config = "escnet_tiny" if weights is None else checkpoint_config(weights)[1]
    cfg = load_config(config, opts, datasets_required=False)
    if weights is not None:
        cfg.MODEL.WEIGHTS = os.fspath(weights)
    # Users get one label per pixel, so class scores at full image size are never needed.
    cfg.TEST.LABEL_MAP_ONLY = True
    check_inference_config(cfg)
    cfg.freeze()
    return cfg


def configured_vocabulary(cfg: CfgNode, vocabulary: VocabularyInput) -> Vocabulary:
    """Resolves a vocabulary by the options in ``cfg.VOCABULARY``."""
    options = cfg.VOCABULARY
    return resolve_vocabulary(
        vocabulary,
        synonyms=synonym_mode(cfg),
        background=options.BACKGROUND,
        background_words=options.BACKGROUND_WORDS,
        background_threshold=options.BACKGROUND_THRESHOLD,
    )


class OpenVocabPredictor:
    """Finds the classes that it is given by name in images.

    ::

        predictor = OpenVocabPredictor.from_pretrained("cat_seg_vitb16")
        result = predictor("photo.jpg", "couch|sofa, dog, grass")
        result.labels, result.scores, result.class_names
        result.overlay().save("overlay.png")

    Attributes:
        cfg: the frozen configuration in use.
        model: in eval mode.
    """

    def __init__(
        self,
        config: str | os.PathLike | CfgNode | None = None,
        *,
        weights: str | os.PathLike | None = None,
        vocabulary: VocabularyInput | None = None,
        device: str | torch.device | None = None,
        opts: Sequence[object] = (),
    ) -> None:
        """Builds the model and loads its weights.

        Args:
            config: name of a shipped configuration, a file, or a configuration; by default that of
                the weights, and ``escnet_tiny`` without any.
            weights: a checkpoint, or the name of shipped or published weights; by default
                ``MODEL.WEIGHTS`` of the configuration.
            vocabulary: what images are segmented into unless a call says otherwise, see
                :meth:`__call__`.
            device: such as ``"cuda:1"``; by default ``MODEL.DEVICE``, or the CPU without a GPU.
            opts: ``KEY VALUE`` pairs that win over the configuration.

        Raises:
            FileNotFoundError: no such configuration, checkpoint or class list.
            RuntimeError: a checkpoint that is damaged or does not fit.
            ValueError: an unknown key or value, or text that is not a vocabulary.
        """
        self.cfg = cfg = inference_config(config, weights=weights, device=device, opts=opts)
        self.model = build_model(cfg).eval()
        if cfg.MODEL.COMPILE:
            compile_regions(self.model)
        if cfg.MODEL.WEIGHTS:
            TrainingCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        elif lacks_weights(cfg):
            logger.warning(
                "Neither weights nor MODEL.WEIGHTS is given: the head is untrained, its results "
                "mean little."
            )
        self._region_masks = RegionMasks.from_config(cfg)
        self._resize = T.AugmentationList(build_augmentations(cfg, is_train=False))
        self._vocabulary = None if vocabulary is None else self.resolve_vocabulary(vocabulary)

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike, **options: Any) -> OpenVocabPredictor:
        """Builds the model of a checkpoint, which says itself of what model it is.

        Args:
            path: a checkpoint of ours, or of the CAT-Seg or SED release.
            **options: ``vocabulary``, ``device`` and ``opts`` of the constructor.

        Raises:
            WeightsError: the file cannot be read, or is of no known model; says what was seen.
        """
        return cls(weights=path, **options)

    @classmethod
    def from_pretrained(
        cls, name: str, *, filename: str = "model_final.pth", **options: Any
    ) -> OpenVocabPredictor:
        """Builds the model of weights by name, which are downloaded unless they are here.

        Args:
            name: of shipped or published weights (docs/weights.md), such as "cat_seg_vitb16", or
                "owner/model" of Hugging Face.
            filename: of the checkpoint in a repository of Hugging Face.
            **options: ``vocabulary``, ``device`` and ``opts`` of the constructor.

        Raises:
            WeightsError: no such name, or as :meth:`from_checkpoint`.
        """
        is_known = name in PUBLISHED_NAMES or shipped_config(name)
        return cls(weights=name if is_known else hub_weights_file(name, filename), **options)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the default vocabulary, the background included; empty without a default."""
        return self._vocabulary.class_names if self._vocabulary else ()

    def resolve_vocabulary(self, vocabulary: VocabularyInput) -> Vocabulary:
        """Turns what :meth:`__call__` takes into a vocabulary, by the options of the config."""
        return configured_vocabulary(self.cfg, vocabulary)

    def __call__(
        self, image: ImageInput, vocabulary: VocabularyInput | None = None
    ) -> SegmentedImage:
        """Segments one image.

        Args:
            image: a path (turned upright by its EXIF orientation), a PIL image or an array (H, W),
                (H, W, 3) or (H, W, 4) in RGB(A) order, uint8 or uint16; see
                :func:`escnet_d2.io.images.to_rgb`.
            vocabulary: ``"couch|sofa, dog"`` (commas between classes, ``|`` between synonyms), a
                list of names, a class list file, the name of a data set, or a
                :class:`~escnet_d2.structures.Vocabulary`; by default that of the constructor.

        Returns:
            Labels and scores at the size of the image, which ``overlay()`` draws.

        Raises:
            FileNotFoundError: no such image or class list.
            ValueError: an image that can't be read or has a wrong shape or type, or no vocabulary.
        """
        return self.predict_batch([image], vocabulary)[0]

    def predict_batch(
        self,
        images: Sequence[ImageInput],
        vocabulary: VocabularyInput | None = None,
        *,
        file_names: Sequence[str | os.PathLike] | None = None,
    ) -> list[SegmentedImage]:
        """Segments several images, of any sizes, in one pass of the model.

        Args:
            images: a list or tuple of what :meth:`__call__` takes.
            vocabulary: as in :meth:`__call__`, for all images.
            file_names: of images that were read already, for MODEL.MASKS.SOURCE "file".

        Returns:
            One result per image, in order.

        Raises:
            FileNotFoundError, ValueError: as :meth:`__call__`.
            TypeError: ``images`` is not a list or tuple, or holds something else than images.
        """
        resolved = self._vocabulary_of_call(vocabulary)
        if not isinstance(images, (list, tuple)):
            raise TypeError(
                f"predict_batch takes a list of images, not {type(images).__name__}; call the "
                "predictor itself for one image."
            )
        if not images:
            return []
        names = [None] * len(images) if file_names is None else file_names
        batch = [self.model_input(image, resolved, name) for image, name in zip(images, names)]
        return self._segment(images, batch, resolved)

    def stream(
        self,
        source: VideoSource | VideoReader,
        vocabulary: VocabularyInput | None = None,
        *,
        every: int = 1,
        smoothing: float = 0.0,
    ) -> Iterator[SegmentedFrame]:
        """Segments a video frame by frame, decoding ahead; memory does not grow with its length.

        ::

            for result in predictor.stream("clip.mp4", "person, road", every=5):
                result.number, result.image, result.labels, result.areas()

        Args:
            source: a video file, the URL of a stream, the index of a camera, or a reader.
            vocabulary: as in :meth:`__call__`.
            every: segment each n-th frame only; of a reader its own counts.
            smoothing: weight in [0, 1) of the past in each frame's scores, which are then moving
                averages: labels flicker less, and come later where things move.

        Yields:
            A result per frame, whose ``image`` is the frame, (H, W, 3) uint8, RGB.

        Raises:
            OSError, ValueError: as :class:`~escnet_d2.io.VideoReader`; a video that breaks off
                raises after its last frame.
            ValueError: ``smoothing`` out of range, or no vocabulary.
        """
        resolved = self._vocabulary_of_call(vocabulary)
        score_filter = _moving_average(smoothing) if smoothing else None
        reader = source if isinstance(source, VideoReader) else VideoReader(source, every=every)
        for frame in reader:
            inputs = self.model_input(frame.pixels, resolved)
            if score_filter:
                inputs["score_filter"] = score_filter
            (result,) = self._segment([frame.pixels], [inputs], resolved)
            yield SegmentedFrame(**vars(result), number=frame.number, seconds=frame.seconds)

    def _vocabulary_of_call(self, vocabulary: VocabularyInput | None) -> Vocabulary:
        resolved = self._vocabulary if vocabulary is None else self.resolve_vocabulary(vocabulary)
        if resolved is None:
            raise ValueError("Give a vocabulary, here or when the predictor is made.")
        return resolved

    def _segment(
        self,
        images: Sequence[ImageInput],
        batch: Sequence[dict[str, Any]],
        vocabulary: Vocabulary,
    ) -> list[SegmentedImage]:
        dtype = INFERENCE_DTYPES[self.cfg.TEST.DTYPE]
        with torch.inference_mode(), autocast(self.cfg.MODEL.DEVICE, dtype):
            outputs = self.model(batch)
        return [
            SegmentedImage(
                labels=output["label_map"].to("cpu", torch.int32).numpy(),
                scores=output["score_map"].to("cpu", torch.float32).numpy(),
                class_names=vocabulary.class_names,
                image=image,
            )
            for image, output in zip(images, outputs)
        ]

    def model_input(
        self,
        image: ImageInput,
        vocabulary: Vocabulary,
        file_name: str | os.PathLike | None = None,
    ) -> dict[str, Any]:
        """Returns an image as the model takes it: what the test mapper makes of an image file."""
        rgb = image_pixels(image)
        height, width = rgb.shape[:2]
        augmented = T.AugInput(rgb)
        transforms = self._resize(augmented)
        # A copy: torch warns of arrays that cannot be written to.
        pixels = np.array(augmented.image.transpose(2, 0, 1), order="C")
        inputs = {
            "image": torch.from_numpy(pixels),
            "height": height,
            "width": width,
            "vocabulary": vocabulary,
        }
        if file_name is None and isinstance(image, (str, os.PathLike)):
            file_name = image
        if self._region_masks is not None and file_name is not None:
            masks = self._region_masks.read(file_name, (height, width), None)
            inputs["masks"] = transformed_masks(masks, transforms)
        return inputs


def _moving_average(past_weight: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a function that averages the tensors that it is called with over time."""
    if not 0 <= past_weight < 1:
        raise ValueError(f"The smoothing must be at least 0 and below 1, got {past_weight}.")
    mean: torch.Tensor | None = None

    def average(scores: torch.Tensor) -> torch.Tensor:
        nonlocal mean
        mean = scores if mean is None else torch.lerp(scores, mean, past_weight)
        return mean

    return average
