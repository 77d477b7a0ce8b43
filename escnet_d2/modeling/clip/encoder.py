"""CLIP as the head sees it: dense image features and text embeddings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import open_clip
import torch
from detectron2.config import CfgNode, configurable
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import resize_pos_embed
from torch import Tensor, nn

from escnet_d2.structures import ClipFeatures
from escnet_d2.weights import WeightsError, clip_weights_file, load_state_dict

from .attention import SplitAttention
from .finetune import set_trainable
from .templates import prompt_templates
from .text import (
    Entries,
    TextEmbeddingCache,
    Tokenizer,
    embed_sentences,
    encode_entries,
)
from .visual import DENSE_RESIDUALS, check_plain_vit, dense_image_features

logger = logging.getLogger(__name__)

open_clip.add_model_config(Path(__file__).parent / "model_configs")


class ClipEncoder(nn.Module):
    """An open_clip model whose image tower gives dense features.

    Attributes:
        model: the open_clip model, with its own parameter names; attention weights are split.
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
        if dense_residual not in DENSE_RESIDUALS:
            raise ValueError(
                f"MODEL.CLIP.DENSE_RESIDUAL must be one of {', '.join(DENSE_RESIDUALS)}, "
                f"got {dense_residual!r}."
            )
        depth = len(model.visual.transformer.resblocks)
        blocks = tuple(intermediate_blocks)
        if len(blocks) != 2 or not 0 <= blocks[0] < blocks[1] < depth - 1:
            raise ValueError(
                f"MODEL.CLIP.INTERMEDIATE_BLOCKS must be two ascending blocks of 0..{depth - 2} "
                f"of {name}, got {list(blocks)}."
            )
        if text_batch_size < 1:
            raise ValueError(
                f"MODEL.CLIP.TEXT_BATCH_SIZE must be 1 or more, got {text_batch_size}."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.dense_residual = dense_residual
        self.intermediate_blocks = blocks
        self.templates = prompt_templates(templates)
        self.average_templates = average_templates
        self.text_batch_size = text_batch_size
        self.gradient_checkpointing = gradient_checkpointing
        self._pixel_mean = tuple(pixel_mean)
        self._pixel_std = tuple(pixel_std)
        self._cache = TextEmbeddingCache()
        self.trainable = set_trainable(model, finetune)
        logger.info("CLIP %s: %d tensors train (%s)", name, len(self.trainable), finetune)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds the model; loads its weights unless a checkpoint (MODEL.WEIGHTS) brings them."""
        node = cfg.MODEL.CLIP
        if node.TEMPLATE_ENSEMBLE not in ("mean", "channels"):
            raise ValueError(
                "MODEL.CLIP.TEMPLATE_ENSEMBLE must be mean or channels, "
                f"got {node.TEMPLATE_ENSEMBLE!r}."
            )
        weights = "random" if cfg.MODEL.WEIGHTS else node.WEIGHTS
        # What open_clip knows of a pre-training tag; empty for a path.
        tag = open_clip.get_pretrained_cfg(node.NAME, node.WEIGHTS)
        return {
            "model": build_clip_model(node.NAME, weights, quick_gelu=tag.get("quick_gelu", False)),
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
        return 1 if self.average_templates else len(self.templates)

    @property
    def temperature(self) -> Tensor:
        """Factor on cosines that CLIP was trained with, a scalar."""
        return self.model.logit_scale.exp()

    @property
    def pixel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the training images, RGB, on the scale 0 to 255."""
        return 255 * torch.tensor(self._pixel_mean), 255 * torch.tensor(self._pixel_std)

    def encode_image(self, images: Tensor) -> ClipFeatures:
        """Dense features of normalised images (B, 3, h, w), sides multiples of the patch size."""
        return dense_image_features(
            self.model.visual,
            images,
            intermediate_blocks=self.intermediate_blocks,
            residual=self.dense_residual,
            gradient_checkpointing=self.gradient_checkpointing and self.training,
        )

    def encode_text(self, entries: Entries) -> Tensor:
        """Unit text embeddings (K, P, C) of vocabulary entries."""
        return encode_entries(
            self._cache,
            self.model,
            self.tokenizer,
            entries,
            self.templates,
            training=self.training,
            average_templates=self.average_templates,
            batch_size=self.text_batch_size,
            gradient_checkpointing=self.gradient_checkpointing,
        )

    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Unit embeddings (sentences, C) of sentences that are put into no template."""
        return embed_sentences(self.model, self.tokenizer, sentences, self.text_batch_size)

    def train(self, mode: bool = True) -> ClipEncoder:
        """Switches mode; what was remembered in testing does not survive a change to training."""
        if mode and not self.training:
            self._cache.clear()
        return super().train(mode)


def build_clip_model(
    name: str,
    weights: str,
    *,
    quick_gelu: bool = False,
    split_attention: bool = True,
    vision_options: Mapping[str, object] | None = None,
) -> nn.Module:
    """Builds an open_clip model in float32 and loads a checkpoint.

    Args:
        name: an open_clip model name, or one of our ``model_configs``.
        weights: a path, a pre-training tag of open_clip, or "random".
        quick_gelu: use QuickGELU, as OpenAI's weights need, whatever the name says. Set by the
            tag; a path does not tell, so there the name must (``ViT-B-16-quickgelu``).
        split_attention: give every attention separate q, k and v weights.
        vision_options: replace entries of open_clip's configuration of the image tower.

    Raises:
        ValueError: no such model.
        WeightsError: the weights cannot be found, or do not fit the model.
    """
    known = open_clip.list_models()
    if name not in known:
        vits = ", ".join(n for n in known if "ViT" in n or n.startswith("escnet"))
        raise ValueError(f"MODEL.CLIP.NAME {name!r} is not an open_clip model; ViTs are: {vits}.")
    config = open_clip.get_model_config(name)
    config["quick_gelu"] = quick_gelu or config.get("quick_gelu", False)
    config["vision_cfg"].update(vision_options or {})
    tower = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    try:
        model = tower(**config)
    except TypeError as error:
        raise ValueError(f"MODEL.CLIP.NAME {name!r} is not a plain CLIP model: {error}") from error
    if split_attention:
        _split_attention(model)
    if weights != "random":
        path = clip_weights_file(name, weights)
        state_dict = {key: value.float() for key, value in load_state_dict(path).items()}
        try:
            resize_pos_embed(state_dict, model)
            model.load_state_dict(state_dict)
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit MODEL.CLIP.NAME {name}: {error}") from error
    return model


def _split_attention(model: nn.Module) -> None:
    for module in list(model.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, child_name, SplitAttention.from_joint(child))
