"""CAT-Seg as a Detectron2 meta-architecture, with the keys and results of its release."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from escnet_d2.config import check_choice
from escnet_d2.modeling.cat_seg import CostAggregator
from escnet_d2.modeling.clip.build import build_baseline_clip, is_convnext, names_convnext
from escnet_d2.modeling.clip.convnext import STRIDE as CONVNEXT_STRIDE
from escnet_d2.modeling.clip.convnext import pyramid_features, stage_dims
from escnet_d2.modeling.clip.finetune import CAT_SEG_POLICIES, CONVNEXT_POLICIES, set_trainable
from escnet_d2.modeling.clip.visual import DENSE_RESIDUALS, dense_image_features
from escnet_d2.modeling.windows import SquashedViews
from escnet_d2.structures import ClipFeatures, Vocabulary

from .baseline_segmentor import BaselineHead, BaselineSegmentor, decoder_options, mean_loss


@META_ARCH_REGISTRY.register()
class CATSeg(BaselineSegmentor):
    """Cost aggregation for open-vocabulary semantic segmentation (arXiv 2303.11797).

    Images and class names -> CLIP -> correlation -> spatial and class aggregation -> decoder.
    """

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: BaselineHead,
        finetune: str,
        skip_dims: tuple[int, int],
        dense_residual: str = "cls",
        **options: object,
    ) -> None:
        """Composes the model.

        Args:
            sem_seg_head: an open_clip ViT with split attention or, as the release has not, a
                ConvNeXt; and a :class:`CostAggregator`.
            finetune: MODEL.SEM_SEG_HEAD.CLIP_FINETUNE.
            skip_dims: channels of CLIP's earlier features after their upsampling by 2 and by 4; a
                first one of 0 leaves them out.
            dense_residual: MODEL.CLIP.DENSE_RESIDUAL, "cls" in the release.
            options: of :class:`BaselineSegmentor`.

        Raises:
            ValueError: another policy or residual, or a ViT of fewer than three blocks.
        """
        super().__init__(sem_seg_head=sem_seg_head, **options)
        clip = sem_seg_head.predictor.clip_model
        self._is_convnext = is_convnext(clip.visual)
        self.upsample1 = self.upsample2 = None
        if self._is_convnext:
            # Its stages have twice and four times the grid already.
            set_trainable(clip, finetune, CONVNEXT_POLICIES)
            return
        set_trainable(clip, finetune, CAT_SEG_POLICIES)
        check_choice("MODEL.CLIP.DENSE_RESIDUAL", dense_residual, DENSE_RESIDUALS)
        self._dense_residual = dense_residual
        width, depth = clip.visual.transformer.width, len(clip.visual.transformer.resblocks)
        if depth < 3:
            raise ValueError(
                "MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED must have three blocks or more, it has "
                f"{depth}."
            )
        if skip_dims[0]:
            self.upsample1 = nn.ConvTranspose2d(width, skip_dims[0], kernel_size=2, stride=2)
            self.upsample2 = nn.ConvTranspose2d(width, skip_dims[1], kernel_size=4, stride=4)
        # The ends of the first and the second third: blocks 3 and 7 of ViT-B, 7 and 15 of ViT-L.
        self._skip_blocks = (depth // 3 - 1, 2 * depth // 3 - 1)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds CLIP, the aggregator and the options."""
        options = super().from_config(cfg)
        convnext = names_convnext(cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED)
        clip, tokenizer = build_baseline_clip(cfg, convnext=convnext)
        skip_dims = tuple(cfg.MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_DIMS)
        if convnext:
            _check_skips(cfg, stage_dims(clip.visual))
        return {
            **options,
            "sem_seg_head": BaselineHead(
                cfg, clip_model=clip, tokenizer=tokenizer, build_transformer=cls._build_aggregator
            ),
            "skip_dims": skip_dims,
            "dense_residual": cfg.MODEL.CLIP.DENSE_RESIDUAL,
            "views": SquashedViews.from_config(
                cfg, stride=CONVNEXT_STRIDE if convnext else clip.visual.patch_size[0]
            ),
        }

    @classmethod
    def _build_aggregator(cls, cfg: CfgNode, num_templates: int) -> CostAggregator:
        return CostAggregator(**aggregator_options(cfg, num_templates))

    def predict(self, images: Tensor, text_embeddings: Tensor) -> Tensor:
        """Predicts logits of images of CLIP's resolution.

        Args:
            images: normalized, (B, 3, *resolution).
            text_embeddings: (K, P, D) of ``sem_seg_head.encode_text``.

        Returns:
            (B, K, 4 H, 4 W) for H x W patches.
        """
        features, skips = self._image_features(images)
        return self.sem_seg_head.predictor.transformer(features.dense, text_embeddings, skips)

    def _image_features(self, images: Tensor) -> tuple[ClipFeatures, list[Tensor]]:
        """Returns CLIP's features, and skips for both upsamplings, at twice and four times H x W.

        ``intermediate`` of the features is a shallow and a deeper map.
        """
        visual = self.sem_seg_head.predictor.clip_model.visual
        recompute = self.gradient_checkpointing and self.training
        if self._is_convnext:
            features = pyramid_features(visual, images, gradient_checkpointing=recompute)
            _, fine, coarse, _ = features.intermediate
            return ClipFeatures(features.dense, (fine, coarse)), [coarse, fine]
        features = dense_image_features(
            visual,
            images,
            intermediate_blocks=self._skip_blocks,
            residual=self._dense_residual,
            gradient_checkpointing=recompute,
        )
        if self.upsample1 is None:
            return features, []
        shallow, deep = features.intermediate
        return features, [self.upsample1(shallow), self.upsample2(deep)]

    def _group_losses(
        self, images: list[Tensor], targets: list[Tensor], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        vocabulary, targets = self._train_classes(vocabulary, targets)
        text = self.sem_seg_head.encode_text(vocabulary.entries)
        logits = self.predict(self.views.squash(images), text)
        loss = mean_loss(logits, targets, vocabulary)
        return {"loss_sem_seg": loss + 0.0 * self._idle_weights()}

    def _idle_weights(self) -> Tensor | float:
        """Sums the open weights that the losses do not depend on.

        The release opens the query (and key) weights of the last image block too. Their gradient is
        zero, but distributed training asks for one.
        """
        if self._is_convnext:
            return 0.0
        last = self.sem_seg_head.predictor.clip_model.visual.transformer.resblocks[-1].attn
        weights = (last.q_proj_weight, last.k_proj_weight)
        return sum(weight.sum() for weight in weights if weight.requires_grad)

    def _group_scores(self, images: list[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
        text = self.sem_seg_head.encode_text(vocabulary.entries)
        return self.views.scores(images, lambda views: self.predict(views, text))


def aggregator_options(cfg: CfgNode, num_templates: int) -> dict[str, object]:
    """Reads the arguments of :class:`CostAggregator`; ValueError for those that do not fit."""
    node = cfg.MODEL.SEM_SEG_HEAD
    options = decoder_options(
        cfg,
        guidance=("TEXT_GUIDANCE_DIM", "APPEARANCE_GUIDANCE_DIM"),
        attended=(node.HIDDEN_DIMS,),
    )
    for key, projected in (
        ("TEXT_GUIDANCE_DIM", "TEXT_GUIDANCE_PROJ_DIM"),
        ("APPEARANCE_GUIDANCE_DIM", "APPEARANCE_GUIDANCE_PROJ_DIM"),
        ("DECODER_GUIDANCE_DIMS", "DECODER_GUIDANCE_PROJ_DIMS"),
    ):
        if _is_zero(node[key]) != _is_zero(node[projected]):
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.{key} and {projected} must be 0 together, "
                f"got {node[key]} and {node[projected]}."
            )
    return {
        **options,
        "num_templates": num_templates,
        "text_guidance_dim": node.TEXT_GUIDANCE_PROJ_DIM,
        "image_dim": node.APPEARANCE_GUIDANCE_DIM,
        "image_guidance_dim": node.APPEARANCE_GUIDANCE_PROJ_DIM,
        "num_layers": node.NUM_LAYERS,
        "pad_length": node.PAD_LENGTH,
    }


def _check_skips(cfg: CfgNode, stages: tuple[int, ...]) -> None:
    """Refuses skips that are not the stages of strides 16 and 8, which nothing projects before."""
    given = list(cfg.MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_DIMS)
    if any(given) and given != [stages[2], stages[1]]:
        raise ValueError(
            "MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_DIMS of CATSeg must be the channels of "
            f"{cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED}'s stages, {[stages[2], stages[1]]}, "
            f"got {given}."
        )


def _is_zero(width: int | Sequence[int]) -> bool:
    return not (any(width) if isinstance(width, Sequence) else width)
