"""Segmentation of photos by class names, as a Python API."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Union

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling import build_model

from escnet_d2.config import synonym_mode
from escnet_d2.data import resolve_vocabulary
from escnet_d2.data.semantic_mapper import build_augmentations
from escnet_d2.io import ImageInput, image_pixels
from escnet_d2.outputs import SegmentedImage
from escnet_d2.structures import Vocabulary

from .checkpoint import TrainingCheckpointer
from .config_checks import check_inference_config
from .model_description import lacks_weights
from .precision import INFERENCE_DTYPES, autocast
from .setup import load_config

VocabularyInput = Union[str, os.PathLike, Sequence[Union[str, Sequence[str]]], Vocabulary]

logger = logging.getLogger(__name__)


def inference_config(
    config: str | os.PathLike | CfgNode = "escnet_tiny",
    *,
    weights: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    opts: Sequence[object] = (),
) -> CfgNode:
    """Returns the frozen configuration of an :class:`OpenVocabPredictor`, whose arguments it takes.

    Raises:
        FileNotFoundError: no such configuration.
        ValueError: an unknown key or value.
    """
    if device is not None:
        opts = (*opts, "MODEL.DEVICE", str(device))
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

        predictor = OpenVocabPredictor("escnet_tiny", weights="model_final.pth")
        result = predictor("photo.jpg", "couch|sofa, dog, grass")
        result.labels, result.scores, result.class_names
        result.overlay().save("overlay.png")

    Attributes:
        cfg: the frozen configuration in use.
        model: in eval mode.
    """

    def __init__(
        self,
        config: str | os.PathLike | CfgNode = "escnet_tiny",
        *,
        weights: str | os.PathLike | None = None,
        vocabulary: VocabularyInput | None = None,
        device: str | torch.device | None = None,
        opts: Sequence[object] = (),
    ) -> None:
        """Builds the model and loads its weights.

        Args:
            config: name of a shipped configuration, a file, or a configuration.
            weights: a checkpoint, by default ``MODEL.WEIGHTS`` of the configuration.
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
        if cfg.MODEL.WEIGHTS:
            TrainingCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        elif lacks_weights(cfg):
            logger.warning(
                "Neither weights nor MODEL.WEIGHTS is given: the head is untrained, its results "
                "mean little."
            )
        self._resize = T.AugmentationList(build_augmentations(cfg, is_train=False))
        self._vocabulary = None if vocabulary is None else self.resolve_vocabulary(vocabulary)

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
        self, images: Sequence[ImageInput], vocabulary: VocabularyInput | None = None
    ) -> list[SegmentedImage]:
        """Segments several images, of any sizes, in one pass of the model.

        Args:
            images: a list or tuple of what :meth:`__call__` takes.
            vocabulary: as in :meth:`__call__`, for all images.

        Returns:
            One result per image, in order.

        Raises:
            FileNotFoundError, ValueError: as :meth:`__call__`.
            TypeError: ``images`` is not a list or tuple, or holds something else than images.
        """
        resolved = self._vocabulary if vocabulary is None else self.resolve_vocabulary(vocabulary)
        if resolved is None:
            raise ValueError("Give a vocabulary, here or when the predictor is made.")
        if not isinstance(images, (list, tuple)):
            raise TypeError(
                f"predict_batch takes a list of images, not {type(images).__name__}; call the "
                "predictor itself for one image."
            )
        if not images:
            return []
        batch = [self.model_input(image, resolved) for image in images]
        dtype = INFERENCE_DTYPES[self.cfg.TEST.DTYPE]
        with torch.inference_mode(), autocast(self.cfg.MODEL.DEVICE, dtype):
            outputs = self.model(batch)
        return [
            SegmentedImage(
                labels=output["label_map"].to("cpu", torch.int32).numpy(),
                scores=output["score_map"].to("cpu", torch.float32).numpy(),
                class_names=resolved.class_names,
                image=image,
            )
            for image, output in zip(images, outputs)
        ]

    def model_input(self, image: ImageInput, vocabulary: Vocabulary) -> dict[str, Any]:
        """Returns an image as the model takes it: what the test mapper makes of an image file."""
        rgb = image_pixels(image)
        height, width = rgb.shape[:2]
        augmented = T.AugInput(rgb)
        self._resize(augmented)
        # A copy: torch warns of arrays that cannot be written to.
        pixels = np.array(augmented.image.transpose(2, 0, 1), order="C")
        return {
            "image": torch.from_numpy(pixels),
            "height": height,
            "width": width,
            "vocabulary": vocabulary,
        }
