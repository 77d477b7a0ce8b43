"""CLIP alone: each patch takes the class whose name is nearest."""

from __future__ import annotations

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.layers import image_text_correlation
from escnet_d2.modeling.class_scores import class_scores
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.modeling.sliding_window import CELLS_PER_PATCH
from escnet_d2.structures import Vocabulary

from .inference_options import InferenceOptions
from .segmentor import check_input_format
from .view_segmentor import Predict, ViewSegmentor


@META_ARCH_REGISTRY.register()
class ZeroShotCLIP(ViewSegmentor):
    """The correlation that ESC-Net starts from, as a segmentation: what training has to beat.

    A softmax over the classes of CLIP's dense image-text cosines, times its temperature; in the
    manner of MaskCLIP (arXiv 2112.01071). There is nothing to train.
    """

    @configurable
    def __init__(
        self,
        *,
        clip: ClipEncoder,
        resolution: int,
        inference: InferenceOptions,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """See :class:`ViewSegmentor` for the arguments."""
        super().__init__(
            clip=clip, resolution=resolution, inference=inference, vocabulary=vocabulary
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds CLIP and the options."""
        check_input_format(cfg)
        return {
            "clip": ClipEncoder(cfg),
            "resolution": cfg.MODEL.CLIP.RESOLUTION,
            "inference": InferenceOptions.from_config(cfg),
        }

    def _predictor(self, vocabulary: Vocabulary) -> Predict:
        text_embeddings = self.clip.encode_text(vocabulary.entries)

        def predict(images: Tensor) -> Tensor:
            dense = self.clip.encode_image(images).dense
            correlation = image_text_correlation(dense, text_embeddings).mean(dim=1)
            logits = F.interpolate(
                self.clip.temperature * correlation, scale_factor=CELLS_PER_PATCH, mode="bilinear"
            )
            return class_scores(logits, vocabulary, "ce")

        return predict

    def _group_losses(
        self, images: list[Tensor], targets: list[Tensor], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        raise RuntimeError("ZeroShotCLIP has nothing to train; use train_net.py --eval-only.")
