"""CLIP as the head sees it: dense image features and text embeddings."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import open_clip
import torch
from detectron2.config import CfgNode, configurable
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from escnet_d2.config import check_choice
from escnet_d2.structures import ClipFeatures

from .build import build_clip_model, check_plain_vit
from .finetune import ESCNET_POLICIES, set_trainable
from .templates import prompt_templates
from .text import Entries, TextEncoder, Tokenizer
from .visual import DENSE_RESIDUALS, dense_image_features

logger = logging.getLogger(__name__)


class ClipEncoder(nn.Module):
    """An open_clip model whose image tower gives dense features.

    Attributes:
        model: the open_clip model, with its own parameter names; attention weights are split.
        text: embeds class names with ``model``.
        trainable: names of the parameters of ``model`` that train.
    """

    @configurable
    def __init__(
        self,
        *,
        model: nn.Module,
        tokenizer: Tokenizer,
        name: str,
        finetune: str = "attention",
        dense_residual: str = "cls",
        intermediate_blocks: Sequence[int] = (3, 7),
        templates: str = "single",
        average_templates: bool = True,
        text_batch_size: int = 256,
        gradient_checkpointing: bool = False,
        pixel_mean: Sequence[float] = OPENAI_DATASET_MEAN,
        pixel_std: Sequence[float] = OPENAI_DATASET_STD,
    ) -> None:
        """See the keys of MODEL.CLIP for the arguments; pixel statistics are on the scale 0 to 1.

        Raises:
            ValueError: no plain ViT, an unknown option, or blocks that do not exist.
        """
        super().__init__()
        check_plain_vit(model.visual, name)
        check_choice("MODEL.CLIP.DENSE_RESIDUAL", dense_residual, DENSE_RESIDUALS)
        depth = len(model.visual.transformer.resblocks)
        blocks = tuple(intermediate_blocks)
        if len(blocks) != 2 or not 0 <= blocks[0] < blocks[1] < depth - 1:
            raise ValueError(
                f"MODEL.CLIP.INTERMEDIATE_BLOCKS must be two ascending blocks of 0..{depth - 2} "
                f"of {name}, got {list(blocks)}."
            )
        self.model = model
        self.text = TextEncoder(
            model,
            tokenizer,
            prompt_templates(templates),
            average_templates=average_templates,
            batch_size=text_batch_size,
            gradient_checkpointing=gradient_checkpointing,
        )
        self.dense_residual = dense_residual
        self.intermediate_blocks = blocks
        self.gradient_checkpointing = gradient_checkpointing
        self._pixel_mean = tuple(pixel_mean)
        self._pixel_std = tuple(pixel_std)
        # The dense features take the value path through the last block.
        last = f"visual.transformer.resblocks.{depth - 1}.attn"
        self.trainable = set_trainable(
            model,
            finetune,
            ESCNET_POLICIES,
            key="MODEL.CLIP.FINETUNE",
            without_gradient=(f"{last}.q_proj_weight", f"{last}.k_proj_weight"),
        )
        logger.info("CLIP %s: %d tensors train (%s)", name, len(self.trainable), finetune)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds the model; loads its weights unless a checkpoint (MODEL.WEIGHTS) brings them."""
        node = cfg.MODEL.CLIP
        check_choice("MODEL.CLIP.TEMPLATE_ENSEMBLE", node.TEMPLATE_ENSEMBLE, ("mean", "channels"))
        # Empty for a path.
        tag = open_clip.get_pretrained_cfg(node.NAME, node.WEIGHTS)
        return {
            "model": build_clip_model(node.NAME, node.WEIGHTS, load=not cfg.MODEL.WEIGHTS),
            "tokenizer": open_clip.get_tokenizer(node.NAME),
            "name": node.NAME,
            "finetune": node.FINETUNE,
            "dense_residual": node.DENSE_RESIDUAL,
            "intermediate_blocks": node.INTERMEDIATE_BLOCKS,
            "templates": node.TEMPLATES,
            "average_templates": node.TEMPLATE_ENSEMBLE == "mean",
            "text_batch_size": node.TEXT_BATCH_SIZE,
            "gradient_checkpointing": node.GRADIENT_CHECKPOINTING,
            "pixel_mean": tag.get("mean", OPENAI_DATASET_MEAN),
            "pixel_std": tag.get("std", OPENAI_DATASET_STD),
        }

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.model.visual.patch_size[0]

    @property
    def embed_dim(self) -> int:
        """Channels C of the space that images and text share."""
        return self.model.visual.output_dim

    @property
    def width(self) -> int:
        """Channels of the intermediate features."""
        return self.model.visual.transformer.width

    @property
    def num_templates(self) -> int:
        """P: correlation maps per class."""
        return self.text.num_templates

    @property
    def temperature(self) -> Tensor:
        """Factor on cosines that CLIP was trained with, a scalar."""
        return self.model.logit_scale.exp()

    @property
    def pixel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the training images, RGB, on the scale 0 to 255."""
        return 255 * torch.tensor(self._pixel_mean), 255 * torch.tensor(self._pixel_std)

    def encode_image(self, images: Tensor) -> ClipFeatures:
        """Encodes normalized images (B, 3, h, w) whose sides are multiples of the patch size."""
        return dense_image_features(
            self.model.visual,
            images,
            intermediate_blocks=self.intermediate_blocks,
            residual=self.dense_residual,
            gradient_checkpointing=self.gradient_checkpointing and self.training,
        )

    def encode_text(self, entries: Entries) -> Tensor:
        """Embeds vocabulary entries: unit vectors, (K, P, C)."""
        return self.text.encode(entries)
