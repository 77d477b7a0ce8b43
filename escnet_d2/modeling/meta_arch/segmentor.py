"""Base of all meta-architectures of this package: batches in, losses or maps out."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from escnet_d2.modeling.class_scores import label_map, resize_scores
from escnet_d2.modeling.windows import PatchViews, SquashedViews
from escnet_d2.structures import Vocabulary


class OpenVocabSegmentor(nn.Module):
    """Groups a batch by vocabulary, and hands each group to the method.

    Subclasses say how a group of images is trained on (:meth:`_group_losses`) and scored
    (:meth:`_group_scores`).

    Attributes:
        vocabulary: what images without a ``"vocabulary"`` of their own are segmented into; may be
            replaced at any time.
    """

    def __init__(
        self,
        *,
        pixel_mean: Tensor,
        pixel_std: Tensor,
        views: PatchViews | SquashedViews,
        label_map_only: bool = False,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Sets what all methods share.

        Args:
            pixel_mean: of R, G and B on the scale 0 to 255.
            pixel_std: likewise.
            views: the sizes that CLIP sees, and how images are tested.
            label_map_only: TEST.LABEL_MAP_ONLY.
            vocabulary: default vocabulary.
        """
        super().__init__()
        self.views = views
        self.resolution = views.resolution
        self.label_map_only = label_map_only
        self.vocabulary = vocabulary
        self.register_buffer("pixel_mean", pixel_mean.float().view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", pixel_std.float().view(3, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Reads the arguments that all methods have.

        Raises:
            ValueError: INPUT.FORMAT is not RGB, and CLIP would read images wrongly.
        """
        if cfg.INPUT.FORMAT != "RGB":
            raise ValueError(f"INPUT.FORMAT must be RGB, which CLIP reads, got {cfg.INPUT.FORMAT}.")
        return {"label_map_only": cfg.TEST.LABEL_MAP_ONLY}

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Trains on or segments a batch; images may differ in size and vocabulary.

        Args:
            batched_inputs: one dict per image: ``image`` (3, h, w), RGB, 0 to 255; ``sem_seg``
                int64 (h, w) in training; ``height`` and ``width`` of the wanted output (default:
                those of ``image``); ``vocabulary`` (default: that of the model);
                ``score_filter``, a function from class scores (classes, any height, any width) to
                such, applied before they get the size of the output.

        Returns:
            In training a dict of losses. Otherwise one dict per image: ``sem_seg``, scores in
            [0, 1] of shape (classes, height, width), or under TEST.LABEL_MAP_ONLY ``label_map``,
            int32 (height, width), and ``score_map``, float32 (height, width).

        Raises:
            ValueError: an image of another shape, without a vocabulary, or without ``sem_seg`` in
                training.
            FloatingPointError: NaN scores.
        """
        if self.training:
            return self._losses(batched_inputs)
        return self._segment(batched_inputs)

    @abstractmethod
    def _group_losses(
        self, images: list[Tensor], targets: list[Tensor], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        """Computes losses of images with one vocabulary, each the mean over these images.

        Args:
            images: normalized, (3, h, w).
            targets: int64 (h, w); values outside the classes are unlabeled.
            vocabulary: of all of them.
        """

    @abstractmethod
    def _group_scores(self, images: list[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
        """Scores each image with one vocabulary, at any resolution.

        Args:
            images: normalized, (3, h, w).
            vocabulary: of all of them.
        """

    def score_views(self, views: Tensor, text: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Scores the classes of images as CLIP sees them; what a method has to have for export.

        Args:
            views: normalized, (B, 3, h, w) at CLIP's resolution.
            text: (K, P, D) of :meth:`encode_text`.
            vocabulary: whose entries they embed.

        Returns:
            Scores in [0, 1], (B, classes, h', w').
        """
        raise NotImplementedError(f"{type(self).__name__} does not score views alone.")

    def _result(
        self, scores: Tensor, size: tuple[int, int], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        """Brings one image's scores of :meth:`_group_scores` to the size that is wanted."""
        del vocabulary  # Scores are of classes already.
        if self.label_map_only:
            labels, best = label_map(scores, size)
            return {"label_map": labels, "score_map": best}
        return {"sem_seg": resize_scores(scores, size)}

    def _image(self, inputs: dict) -> Tensor:
        """Returns what the methods above get of an image: normalized, (3, h, w)."""
        return self._normalize(inputs["image"])

    def _default_vocabulary(self) -> Vocabulary | None:
        return self.vocabulary

    def _losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = defaultdict(lambda: 0.0)
        for vocabulary, group in self._groups(batched_inputs):
            images = [self._image(x) for _, x in group]
            targets = [self._target(x) for _, x in group]
            share = len(group) / len(batched_inputs)
            for name, value in self._group_losses(images, targets, vocabulary).items():
                losses[name] = losses[name] + share * value
        return dict(losses)

    def _segment(self, batched_inputs: list[dict]) -> list[dict]:
        results: list[dict] = [{}] * len(batched_inputs)
        for vocabulary, group in self._groups(batched_inputs):
            images = [self._image(x) for _, x in group]
            scores = self._group_scores(images, vocabulary)
            for (index, x), image, score in zip(group, images, scores):
                if score.isnan().any():
                    raise FloatingPointError(
                        f"Image {_name(x)} has NaN class scores. If float16 overflows, TEST.DTYPE "
                        "bfloat16 or float32 helps."
                    )
                if "score_filter" in x:
                    score = x["score_filter"](score)
                size = (x.get("height", image.shape[1]), x.get("width", image.shape[2]))
                results[index] = self._result(score, size, vocabulary)
        return results

    def _groups(
        self, batched_inputs: list[dict]
    ) -> Iterable[tuple[Vocabulary, list[tuple[int, dict]]]]:
        """Groups the images with their indices by vocabulary."""
        groups: dict[Vocabulary, list[tuple[int, dict]]] = defaultdict(list)
        for index, inputs in enumerate(batched_inputs):
            vocabulary = inputs.get("vocabulary", self._default_vocabulary())
            if vocabulary is None:
                raise ValueError(
                    f"Image {_name(inputs)} has no 'vocabulary' and the model has no default: "
                    "set model.vocabulary."
                )
            groups[vocabulary].append((index, inputs))
        return groups.items()

    def _normalize(self, image: Tensor) -> Tensor:
        shape = tuple(image.shape)
        if len(shape) != 3 or shape[0] != 3 or 0 in shape:
            # Two dimensions would be taken for three equal channels.
            raise ValueError(f"The model takes images of shape (3, h, w), got {shape}.")
        return (image.to(self.device).float() - self.pixel_mean) / self.pixel_std

    def _target(self, inputs: dict) -> Tensor:
        if "sem_seg" not in inputs:
            raise ValueError(f"Training image {_name(inputs)} has no 'sem_seg'.")
        target = inputs["sem_seg"]
        if target.shape != inputs["image"].shape[1:]:
            raise ValueError(
                f"Training image {_name(inputs)} is {tuple(inputs['image'].shape[1:])} but its "
                f"'sem_seg' is {tuple(target.shape)}."
            )
        return target.to(self.device, torch.int64)


def _name(inputs: dict) -> str:
    return inputs.get("file_name", "(unnamed)")
