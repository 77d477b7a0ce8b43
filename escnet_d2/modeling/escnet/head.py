"""ESC-Net's head: from CLIP's features to class logits (ESC-Net section 3).

Shapes: B images, K vocabulary entries, P templates, H x W patches, D image and text channels of
CLIP's shared space, C channels of the embedded correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from escnet_d2.config import check_at_least, chunk_size
from escnet_d2.layers import image_text_correlation, map_chunks
from escnet_d2.layers.class_subsets import (
    likeliest_classes,
    sample_entries,
    take_classes,
    voted_classes,
)
from escnet_d2.modeling.sam import SamAdapter, build_sam_adapter, build_sam_blocks
from escnet_d2.structures import ClipFeatures, PseudoPrompts

from .decoder import MaskDecoder
from .esc_block import EscBlock, zero_linear
from .pseudo_prompts import PseudoPromptGenerator
from .vision_language_fusion import VisionLanguageFusion

# Intermediate features of CLIP, one to each upsampling of the decoder.
_NUM_SKIPS = 2


@dataclass(frozen=True)
class HeadOutput:
    """Predictions of the head.

    Attributes:
        logits: (B, K', 4 H, 4 W) of the entries that were computed.
        class_maps: class logits (B, K', H, W) that each ESC-Block's prompts came from; the first is
            CLIP's own correlation times its temperature.
        prompts: pseudo prompts of each ESC-Block; None without SAM blocks.
        entries: (B, K') the vocabulary's entry of each map and prompt; ascending, and not all of
            them where some were left out (TRAIN_CLASSES, MAX_CLASSES, VOTES_KEPT).
    """

    logits: Tensor
    class_maps: tuple[Tensor, ...]
    prompts: tuple[PseudoPrompts | None, ...]
    entries: Tensor


class ESCNetHead(nn.Module):
    """Correlation, N ESC-Blocks, decoder."""

    @configurable
    def __init__(
        self,
        *,
        blocks: Sequence[EscBlock],
        sam_adapter: SamAdapter | None,
        prompt_generator: PseudoPromptGenerator,
        decoder: MaskDecoder,
        num_templates: int,
        embed_dim: int,
        embed_kernel: int,
        with_map_heads: bool,
        class_chunk_size: int,
        gradient_checkpointing: bool,
        train_classes: int,
        max_classes: int,
        prompt_dropout: float,
        votes_kept: float,
    ) -> None:
        """Composes the head from built modules.

        Args:
            blocks: the ESC-Blocks, one or more.
            sam_adapter: makes what their SAM blocks read of CLIP's features; None without any.
            prompt_generator: shared by all blocks.
            decoder: makes logits of the last embedded correlation.
            num_templates: P.
            embed_dim: C.
            embed_kernel: odd kernel of the convolution that embeds the correlation.
            with_map_heads: refine the class map from block to block; False keeps CLIP's own.
            class_chunk_size: classes at a time, 0 for all.
            gradient_checkpointing: recompute fusions and decoder in the backward pass.
            train_classes: classes kept per image in training, 0 for all.
            max_classes: classes kept per image in testing, 0 for all.
            prompt_dropout: share of the images that get no prompts in training.
            votes_kept: share of the votes that the classes kept in testing have, 1 for all.

        Raises:
            ValueError: no block, a kernel that is not odd, or a share out of range.
        """
        super().__init__()
        if not blocks:
            raise ValueError("MODEL.ESCNET.NUM_BLOCKS must be 1 or more.")
        if embed_kernel < 1 or embed_kernel % 2 == 0:
            raise ValueError(
                f"MODEL.ESCNET.EMBED_KERNEL must be odd and above 0, got {embed_kernel}."
            )
        if not 0 <= prompt_dropout <= 1:
            raise ValueError(
                f"MODEL.ESCNET.PROMPT_DROPOUT must be in [0, 1], got {prompt_dropout}."
            )
        if not 0.0 < votes_kept <= 1.0:
            raise ValueError(f"MODEL.ESCNET.VOTES_KEPT must be in (0, 1], got {votes_kept}.")
        self.blocks = nn.ModuleList(blocks)
        self.sam_adapter = sam_adapter
        self.prompt_generator = prompt_generator
        self.decoder = decoder
        self.class_chunk_size = class_chunk_size
        self.gradient_checkpointing = gradient_checkpointing
        self.train_classes = train_classes
        self.max_classes = max_classes
        self.prompt_dropout = prompt_dropout
        self.votes_kept = votes_kept
        self.correlation_embedding = nn.Conv2d(
            num_templates, embed_dim, kernel_size=embed_kernel, padding=embed_kernel // 2
        )
        # Heads for the maps of the second block on; zero at first, so that training starts from
        # prompts of CLIP's own correlation.
        self.map_heads = nn.ModuleList(
            zero_linear(embed_dim, 1) for _ in range(len(blocks) - 1 if with_map_heads else 0)
        )

    @classmethod
    def from_config(
        cls, cfg: CfgNode, *, clip_dim: int, clip_width: int, num_templates: int
    ) -> dict[str, object]:
        """Builds the submodules for D, the channels of CLIP's intermediate features, and P."""
        _check_ranges(cfg)
        node = cfg.MODEL.ESCNET
        sam_blocks = build_sam_blocks(cfg) if node.USE_SAM else [None] * node.NUM_BLOCKS
        blocks = [
            EscBlock(
                image_dim=clip_dim,
                dim=node.EMBED_DIM,
                sam=sam,
                sam_outputs=node.SAM_OUTPUTS,
                fusion=VisionLanguageFusion(
                    dim=node.EMBED_DIM,
                    image_dim=clip_dim,
                    image_guidance_dim=node.IMAGE_GUIDANCE_DIM,
                    text_dim=clip_dim,
                    text_guidance_dim=node.TEXT_GUIDANCE_DIM,
                    window_size=node.WINDOW_SIZE,
                    num_heads=node.NUM_HEADS,
                    mlp_ratio=node.MLP_RATIO,
                ),
            )
            for sam in sam_blocks
        ]
        return {
            "blocks": blocks,
            "sam_adapter": (
                build_sam_adapter(cfg, clip_dim + _NUM_SKIPS * clip_width) if node.USE_SAM else None
            ),
            "prompt_generator": PseudoPromptGenerator(
                softmax=node.SOFTMAX,
                alpha=node.ALPHA,
                num_points=node.NUM_POINTS,
                kmeans_iterations=node.KMEANS_ITERATIONS,
            ),
            "decoder": MaskDecoder(
                in_dim=node.EMBED_DIM,
                skip_width=clip_width,
                dims=node.DECODER_DIMS,
                skip_dims=node.SKIP_DIMS,
            ),
            "num_templates": num_templates,
            "embed_dim": node.EMBED_DIM,
            "embed_kernel": node.EMBED_KERNEL,
            # Elsewhere no gradient reaches the refined maps: prompts have none.
            "with_map_heads": node.AUX_LOSS_WEIGHT > 0
            or (node.USE_SAM and not {"guidance", "pooling"}.isdisjoint(node.SAM_OUTPUTS)),
            "class_chunk_size": chunk_size(
                "MODEL.ESCNET.CLASS_CHUNK_SIZE", node.CLASS_CHUNK_SIZE, cfg.MODEL.DEVICE
            ),
            "gradient_checkpointing": node.GRADIENT_CHECKPOINTING,
            "train_classes": node.TRAIN_CLASSES,
            "max_classes": node.MAX_CLASSES,
            "prompt_dropout": node.PROMPT_DROPOUT,
            "votes_kept": node.VOTES_KEPT,
        }

    def forward(
        self,
        features: ClipFeatures,
        text_embeddings: Tensor,
        temperature: Tensor,
        present: Tensor | None = None,
    ) -> HeadOutput:
        """Predicts class logits.

        Args:
            features: of B images.
            text_embeddings: unit vectors, (K, P, D).
            temperature: factor that CLIP was trained with, a scalar.
            present: entries that training must not leave out, bool (B, K).

        Returns:
            Maps of all K entries, or of those that were chosen.
        """
        correlation = image_text_correlation(features.dense, text_embeddings)  # (B, P, K, H, W)
        entries = self._choose_entries(correlation, present)
        correlation = take_classes(correlation, entries)
        # One text vector per class guides the fusion: the mean over the templates.
        text = F.normalize(text_embeddings.mean(dim=1), dim=-1)[entries]  # (B, K', D)

        image = features.dense.permute(0, 2, 3, 1)
        embedding = None if self.sam_adapter is None else self.sam_adapter(features)
        # Prompts and the loss on later maps leave CLIP alone: the loss on the logits trains it.
        first_map = (temperature * correlation.mean(dim=1)).detach()
        x = self._embed(correlation)
        prompted = None
        if self.training and self.prompt_dropout:
            prompted = torch.rand(len(x), device=x.device) >= self.prompt_dropout
        class_maps, prompts = [], []
        recompute = self.gradient_checkpointing and self.training
        for index, block in enumerate(self.blocks):
            class_map = first_map
            if index and self.map_heads:
                class_map = class_map + self.map_heads[index - 1](x).squeeze(-1)
            class_maps.append(class_map)
            prompts.append(
                None if block.sam is None else self.prompt_generator(class_map, prompted)
            )
            image, x = block(
                image,
                x,
                text,
                class_map,
                prompts[-1],
                embedding,
                chunk_size=self.class_chunk_size,
                recompute=recompute,
            )
        decoder_inputs = (x, features.intermediate, self.class_chunk_size)
        if recompute:
            logits = checkpoint(self.decoder, *decoder_inputs, use_reentrant=False)
        else:
            logits = self.decoder(*decoder_inputs)
        return HeadOutput(
            logits=logits,
            class_maps=tuple(class_maps),
            prompts=tuple(prompts),
            entries=entries,
        )

    def _choose_entries(self, correlation: Tensor, present: Tensor | None) -> Tensor:
        """Chooses the entries to compute for each image, (B, K'), ascending."""
        B, _, K, _, _ = correlation.shape
        limit = self.train_classes if self.training else self.max_classes
        maps = correlation.detach().mean(dim=1)
        if self.votes_kept < 1 and not self.training:
            return voted_classes(maps, self.votes_kept, limit or K)
        if not 0 < limit < K:
            return torch.arange(K, device=correlation.device).expand(B, K)
        best = maps.amax(dim=(2, 3))
        if self.training:
            return sample_entries(best, present, limit, likeliest=self.max_classes)
        return likeliest_classes(best, limit)

    def _embed(self, correlation: Tensor) -> Tensor:
        """Embeds the correlation, (B, P, K, H, W) to (B, K, H, W, C)."""

        def embed(part: Tensor) -> Tensor:
            embedded = self.correlation_embedding(part.flatten(0, 1)).permute(0, 2, 3, 1)
            return embedded.unflatten(0, part.shape[:2])

        return map_chunks(embed, correlation.transpose(1, 2), self.class_chunk_size)


def _check_ranges(cfg: CfgNode) -> None:
    """Refuses numbers that no module would explain by their keys."""
    node, sam = cfg.MODEL.ESCNET, cfg.MODEL.SAM
    for key in ("WINDOW_SIZE", "NUM_HEADS"):
        check_at_least(f"MODEL.ESCNET.{key}", node[key], 1)
    for key in (
        "TRAIN_CLASSES",
        "MAX_CLASSES",
        "KMEANS_ITERATIONS",
        "IMAGE_GUIDANCE_DIM",
        "TEXT_GUIDANCE_DIM",
    ):
        check_at_least(f"MODEL.ESCNET.{key}", node[key], 0)
    check_at_least("MODEL.SAM.DEPTH", sam.DEPTH, 0)
    if node.EMBED_DIM % node.NUM_HEADS:
        raise ValueError(
            "MODEL.ESCNET.NUM_HEADS must divide MODEL.ESCNET.EMBED_DIM, "
            f"got {node.NUM_HEADS} and {node.EMBED_DIM}."
        )
    # Its attention works on half the channels, its position encoding on pairs.
    if sam.NUM_HEADS < 1 or sam.EMBED_DIM % (2 * sam.NUM_HEADS):
        raise ValueError(
            "MODEL.SAM.EMBED_DIM must be a multiple of 2 x MODEL.SAM.NUM_HEADS, "
            f"got {sam.EMBED_DIM} and {sam.NUM_HEADS}."
        )
