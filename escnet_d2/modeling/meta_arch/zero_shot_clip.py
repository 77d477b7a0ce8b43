"""CLIP alone: each patch takes the class whose name is nearest."""

from __future__ import annotations

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.layers import image_text_correlation
from escnet_d2.modeling.class_scores import class_scores
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.modeling.windows import CELLS_PER_PATCH, PatchViews
from escnet_d2.structures import Vocabulary

from .segmentor import OpenVocabSegmentor


@META_ARCH_REGISTRY.register()
class ZeroShotCLIP(OpenVocabSegmentor):
    """The correlation that ESC-Net starts from, as a segmentation: what training has to beat.

    A softmax over the classes of CLIP's dense image-text cosines, times its temperature; in the
    manner of MaskCLIP (arXiv 2112.01071). There is nothing to train.
    """

    @configurable
    def __init__(self, *, clip: ClipEncoder, **options: object) -> None:
        """Composes the model; see :class:`ESCNet` for the arguments."""
        mean, std = clip.pixel_statistics
        super().__init__(pixel_mean=mean, pixel_std=std, **options)
        self.clip = clip

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds CLIP and the options."""
        options = super().from_config(cfg)
        clip = ClipEncoder(cfg)
        return {**options, "clip": clip, "views": PatchViews.from_config(cfg, clip.patch_size)}

    def _group_scores(self, images: list[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
        text_embeddings = self.clip.encode_text(vocabulary.entries)

        def predict(views: Tensor) -> Tensor:
            dense = self.clip.encode_image(views).dense
            correlation = image_text_correlation(dense, text_embeddings).mean(dim=1)
            logits = F.interpolate(
                self.clip.temperature * correlation, scale_factor=CELLS_PER_PATCH, mode="bilinear"
            )
            return class_scores(logits, vocabulary, "ce")

        return self.views.scores(images, predict)

    def _group_losses(
        self, images: list[Tensor], targets: list[Tensor], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        raise RuntimeError(
            f"{type(self).__name__} has nothing to train; use train_net.py --eval-only."
        )
