"""SED as a Detectron2 meta-architecture, with the keys and results of its release."""

from __future__ import annotations

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from escnet_d2.config import check_at_least
from escnet_d2.modeling.clip.build import build_baseline_clip
from escnet_d2.modeling.clip.convnext import STRIDE, pyramid_features, stage_dims
from escnet_d2.modeling.clip.finetune import SED_POLICIES, set_trainable
from escnet_d2.modeling.sed import GradualDecoder
from escnet_d2.modeling.windows import SquashedViews
from escnet_d2.structures import ClipFeatures, Vocabulary

from .baseline_segmentor import BaselineHead, BaselineSegmentor, decoder_options, mean_loss

_STAGES = ("res2", "res3", "res4", "res5")


@META_ARCH_REGISTRY.register()
class SED(BaselineSegmentor):
    """A simple encoder-decoder for open-vocabulary semantic segmentation (arXiv 2311.15537).

    Images and class names -> ConvNeXt CLIP -> correlation -> gradual fusion decoder. Images
    are seen whole: the release ignores TEST.SLIDING_WINDOW.
    """

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: BaselineHead,
        finetune: str,
        reject_early: bool,
        top_k: int,
        **options: object,
    ) -> None:
        """Composes the model.

        Args:
            sem_seg_head: an open_clip ConvNeXt model and a :class:`GradualDecoder`.
            finetune: MODEL.SEM_SEG_HEAD.CLIP_FINETUNE; "fast_infer" trains the heads for early
                rejection and nothing else.
            reject_early: TEST.FAST_INFERENCE.
            top_k: TEST.TOPK.
            options: of :class:`BaselineSegmentor`.

        Raises:
            ValueError: another policy, or ``top_k`` below 1.
        """
        super().__init__(sem_seg_head=sem_seg_head, **options)
        set_trainable(sem_seg_head.predictor.clip_model, finetune, SED_POLICIES)
        check_at_least("TEST.TOPK", top_k, 1)
        self.reject_early = reject_early
        self.top_k = top_k
        self.heads_only = finetune == "fast_infer"
        if self.heads_only:
            for name, parameter in sem_seg_head.predictor.transformer.named_parameters():
                parameter.requires_grad_(name.startswith(("head0.", "head1.", "head2.")))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds CLIP, the decoder and the options."""
        options = super().from_config(cfg)
        clip, tokenizer = build_baseline_clip(cfg, convnext=True)
        _check_dims(cfg, stage_dims(clip.visual))
        return {
            **options,
            "sem_seg_head": BaselineHead(
                cfg, clip_model=clip, tokenizer=tokenizer, build_transformer=_build_decoder
            ),
            "reject_early": cfg.TEST.FAST_INFERENCE,
            "top_k": cfg.TEST.TOPK,
            "views": SquashedViews.from_config(cfg, stride=STRIDE, with_windows=False),
        }

    def _features(self, images: Tensor) -> tuple[ClipFeatures, list[Tensor]]:
        """Returns the features and, without gradient, the stages of strides 16, 8 and 4.

        As in the release, the image tower learns through its last output alone.
        """
        features = pyramid_features(
            self.sem_seg_head.predictor.clip_model.visual,
            images,
            gradient_checkpointing=self.gradient_checkpointing and self.training,
        )
        return features, [stage.detach() for stage in features.intermediate[-2::-1]]

    def _group_losses(
        self, images: list[Tensor], targets: list[Tensor], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        vocabulary, targets = self._train_classes(vocabulary, targets)
        text = self.sem_seg_head.encode_text(vocabulary.entries)
        features, skips = self._features(self.views.squash(images))
        decoder = self.sem_seg_head.predictor.transformer
        final, early = decoder(features.dense, text, skips)
        losses = {} if self.heads_only else {"loss_sem_seg": mean_loss(final, targets, vocabulary)}
        for index, logits in enumerate(early, start=1):
            losses[f"loss_sem_seg_aux{index}"] = mean_loss(logits, targets, vocabulary)
        return losses

    def _group_scores(self, images: list[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
        text = self.sem_seg_head.encode_text(vocabulary.entries)
        logits = self.predict(self.views.squash(images, pad=False), text)
        return list(logits.float().sigmoid())

    def predict(self, images: Tensor, text_embeddings: Tensor) -> Tensor:
        """Predicts logits, (B, K, 8 H, 8 W); minus infinity where a class was rejected early."""
        features, skips = self._features(images)
        decoder = self.sem_seg_head.predictor.transformer
        if self.reject_early:
            return decoder.forward_rejecting(features.dense, text_embeddings, skips, self.top_k)
        return decoder(features.dense, text_embeddings, skips)[0]


def _check_dims(cfg: CfgNode, stages: tuple[int, ...]) -> None:
    node = cfg.MODEL.SEM_SEG_HEAD
    if sorted(node.IN_FEATURES) != list(_STAGES):
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.IN_FEATURES of SED must be {list(_STAGES)}, "
            f"got {list(node.IN_FEATURES)}."
        )
    expected = list(stages[-2::-1])
    if list(node.DECODER_GUIDANCE_DIMS) != expected:
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_DIMS must be the channels of "
            f"{node.CLIP_PRETRAINED}'s stages, {expected}, got {list(node.DECODER_GUIDANCE_DIMS)}."
        )


def _build_decoder(cfg: CfgNode, num_templates: int) -> GradualDecoder:
    node = cfg.MODEL.SEM_SEG_HEAD
    return GradualDecoder(
        **decoder_options(
            cfg,
            guidance=("TEXT_GUIDANCE_DIM",),
            attended=(node.HIDDEN_DIMS, *node.DECODER_DIMS[:-1]),
        ),
        num_templates=num_templates,
        block_type=node.CNEXT_TYPE,
        kernel_sizes=node.KERNEL_SIZE,
    )
