"""ESC-Net as a Detectron2 meta-architecture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.layers import MAX_SIDE
from escnet_d2.modeling.class_scores import class_scores, label_map, merge_entries, resize_scores
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.modeling.criterion import check_loss_options, sem_seg_loss
from escnet_d2.modeling.escnet import ESCNetHead, HeadOutput
from escnet_d2.structures import Vocabulary

from .inference_options import InferenceOptions

# Normalised images of one size, (n, 3, h, w), to class scores, (n, classes, 4 H, 4 W).
Predict = Callable[[Tensor], Tensor]


@META_ARCH_REGISTRY.register()
class ESCNet(nn.Module):
    """One-stage open-vocabulary semantic segmentation (arXiv 2411.14723).

    Images and class names -> CLIP -> correlation -> N ESC-Blocks -> decoder -> class logits.

    Attributes:
        vocabulary: what images without a ``"vocabulary"`` of their own are segmented into; may be
            replaced at any time.
    """

    @configurable
    def __init__(
        self,
        *,
        clip: ClipEncoder,
        sem_seg_head: ESCNetHead,
        resolution: int,
        loss: str = "bce",
        unlabelled: str = "negative",
        aux_loss_weight: float = 0.0,
        inference: InferenceOptions,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Composes the model.

        Args:
            clip: image and text encoder.
            sem_seg_head: from features to logits.
            resolution: side of the square in pixels that CLIP sees.
            loss: "bce" or "ce".
            unlabelled: "negative" or "skip", for "bce".
            aux_loss_weight: weight of the cross-entropy on later class maps; 0 leaves it out.
            inference: how images are tested.
            vocabulary: default vocabulary.

        Raises:
            ValueError: options out of range; the message names the key.
        """
        super().__init__()
        check_loss_options(loss, unlabelled)
        grid, rest = divmod(resolution, clip.patch_size)
        if rest or not 1 <= grid <= MAX_SIDE:
            raise ValueError(
                f"MODEL.CLIP.RESOLUTION must be a multiple of the patch size {clip.patch_size}, "
                f"1 to {MAX_SIDE} patches; got {resolution}."
            )
        if aux_loss_weight < 0:
            raise ValueError(
                f"MODEL.ESCNET.AUX_LOSS_WEIGHT must be 0 or more, got {aux_loss_weight}."
            )
        inference.check(clip.patch_size)
        self.clip = clip
        self.sem_seg_head = sem_seg_head
        self.resolution = resolution
        self.loss = loss
        self.unlabelled = unlabelled
        self.aux_loss_weight = aux_loss_weight
        self.inference = inference
        self.vocabulary = vocabulary
        mean, std = clip.pixel_statistics
        self.register_buffer("pixel_mean", mean.view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", std.view(3, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds CLIP, the head and the options."""
        if cfg.INPUT.FORMAT != "RGB":
            raise ValueError(f"INPUT.FORMAT must be RGB, which CLIP reads, got {cfg.INPUT.FORMAT}.")
        clip = ClipEncoder(cfg)
        return {
            "clip": clip,
            "sem_seg_head": ESCNetHead(
                cfg,
                clip_dim=clip.embed_dim,
                clip_width=clip.width,
                num_templates=clip.num_templates,
            ),
            "resolution": cfg.MODEL.CLIP.RESOLUTION,
            "loss": cfg.MODEL.ESCNET.LOSS,
            "unlabelled": cfg.MODEL.ESCNET.UNLABELLED,
            "aux_loss_weight": cfg.MODEL.ESCNET.AUX_LOSS_WEIGHT,
            "inference": InferenceOptions.from_config(cfg),
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Trains on or segments a batch; images may differ in size and vocabulary.

        Args:
            batched_inputs: one dict per image: ``image`` (3, h, w), RGB, 0 to 255; ``sem_seg``
                int64 (h, w) in training; ``height`` and ``width`` of the wanted output (default:
                those of ``image``); ``vocabulary`` (default: that of the model).

        Returns:
            In training a dict of losses. Otherwise one dict per image: ``sem_seg``, scores in
            [0, 1] of shape (classes, height, width), or under TEST.LABEL_MAP_ONLY ``label_map``,
            int64 (height, width), and ``score_map``, float32 (height, width).

        Raises:
            ValueError: an image without a vocabulary, or without ``sem_seg`` in training.
        """
        if self.training:
            return self._losses(batched_inputs)
        return self._segment(batched_inputs)

    def predict(self, images: Tensor, text_embeddings: Tensor) -> HeadOutput:
        """Runs CLIP's image tower and the head.

        Args:
            images: normalised, (B, 3, h, w), sides multiples of the patch size.
            text_embeddings: (K, P, C) of ``clip.encode_text``.
        """
        features = self.clip.encode_image(images)
        return self.sem_seg_head(features, text_embeddings, self.clip.temperature)

    # -- training --

    def _losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        size = (self.resolution, self.resolution)
        losses: dict[str, Tensor] = defaultdict(lambda: 0.0)
        for vocabulary, indices in self._group_by_vocabulary(batched_inputs).items():
            inputs = [batched_inputs[index] for index in indices]
            images = torch.stack([_resize_image(self._normalise(x["image"]), size) for x in inputs])
            output = self.predict(images, self.clip.encode_text(vocabulary.entries))
            targets = [self._target(x) for x in inputs]
            share = len(inputs) / len(batched_inputs)
            for name, value in self._group_losses(output, targets, vocabulary).items():
                losses[name] = losses[name] + share * value
        return dict(losses)

    def _group_losses(
        self, output: HeadOutput, targets: list[Tensor], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        logits = merge_entries(output.logits, vocabulary)
        main = [
            self._image_loss(_resize_logits(logit, target.shape), target)
            for logit, target in zip(logits, targets)
        ]
        losses = {"loss_sem_seg": torch.stack(main).mean()}
        if self.aux_loss_weight > 0:
            # The first map is CLIP's own correlation, which has no head.
            for index, class_map in enumerate(output.class_maps[1:], start=1):
                merged = merge_entries(class_map, vocabulary)
                aux = [
                    sem_seg_loss(
                        logit.unsqueeze(0), _resize_target(target, logit.shape[1:]), loss="ce"
                    )
                    for logit, target in zip(merged, targets)
                ]
                losses[f"loss_sem_seg_aux{index}"] = self.aux_loss_weight * torch.stack(aux).mean()
        return losses

    def _image_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of one image; the mean over images then equals that of any split into batches."""
        return sem_seg_loss(logits, target.unsqueeze(0), loss=self.loss, unlabelled=self.unlabelled)

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

    # -- inference --

    def _segment(self, batched_inputs: list[dict]) -> list[dict]:
        results: list[dict] = [{}] * len(batched_inputs)
        for vocabulary, indices in self._group_by_vocabulary(batched_inputs).items():
            group = self._segment_group([batched_inputs[index] for index in indices], vocabulary)
            for index, result in zip(indices, group):
                results[index] = result
        return results

    def _segment_group(self, inputs: list[dict], vocabulary: Vocabulary) -> list[dict]:
        text_embeddings = self.clip.encode_text(vocabulary.entries)

        def predict(images: Tensor) -> Tensor:
            output = self.predict(images, text_embeddings)
            return class_scores(output.logits, vocabulary, self.loss)

        images = [self._normalise(x["image"]) for x in inputs]
        return [
            self._result(score, (x.get("height", image.shape[1]), x.get("width", image.shape[2])))
            for x, image, score in zip(inputs, images, self._image_scores(images, predict))
        ]

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
            batch = torch.stack([_resize_image(images[index], size) for index in indices])
            for index, score in zip(indices, predict(batch)):
                scores[index] = score
        return scores

    def _sliding_window_scores(self, image: Tensor, predict: Predict) -> Tensor:
        options = self.inference
        if any(options.window_image_size):
            image = _resize_image(image, options.window_image_size)
        return options.slide(
            image,
            predict,
            window=options.window_size or self.resolution,
            patch=self.clip.patch_size,
        )

    def _result(self, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        if self.inference.label_map_only:
            labels, best = label_map(scores, size)
            return {"label_map": labels, "score_map": best}
        return {"sem_seg": resize_scores(scores, size)}

    # -- both --

    def _group_by_vocabulary(self, batched_inputs: list[dict]) -> dict[Vocabulary, list[int]]:
        groups: dict[Vocabulary, list[int]] = defaultdict(list)
        for index, inputs in enumerate(batched_inputs):
            vocabulary = inputs.get("vocabulary", self.vocabulary)
            if vocabulary is None:
                raise ValueError(
                    f"Image {_name(inputs)} has no 'vocabulary' and the model has no default: "
                    "set model.vocabulary."
                )
            groups[vocabulary].append(index)
        return groups

    def _normalise(self, image: Tensor) -> Tensor:
        return (image.to(self.device).float() - self.pixel_mean) / self.pixel_std


def _name(inputs: dict) -> str:
    return inputs.get("file_name", "(unnamed)")


def _resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, h, w) to (3, *size); antialiased, since photos are mostly shrunk."""
    size = tuple(size)
    if image.shape[1:] == size:
        return image
    resized = F.interpolate(
        image.unsqueeze(0), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return resized.squeeze(0)


def _resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(K, h, w) to (1, K, *size), float32."""
    return F.interpolate(
        logits.unsqueeze(0).float(), size=tuple(size), mode="bilinear", align_corners=False
    )


def _resize_target(target: Tensor, size: tuple[int, int]) -> Tensor:
    """Label at the centre of each cell of a coarser grid, (h, w) to (1, *size)."""
    resized = F.interpolate(target[None, None].double(), size=tuple(size), mode="nearest-exact")
    return resized[0].long()
