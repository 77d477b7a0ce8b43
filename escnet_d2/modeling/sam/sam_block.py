"""SAM's prompt encoder and two-way transformer as a block that refines image features.

Shapes: B images, M prompt sets (one per image and class that has foreground), N points, C = 256
SAM channels, H x W patches.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import PromptEncoder, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.config import check_choice

from .two_way_attention import two_way_layer

# SAM clamps nothing, but its own low-resolution logits rarely leave this range.
_MAX_LOGIT = 10.0


class TokenDecoder(nn.Module):
    """Parts of SAM's ``MaskDecoder`` that come before its mask heads, under the same names."""

    def __init__(self, transformer: TwoWayTransformer, num_mask_tokens: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.iou_token = nn.Embedding(1, transformer.embedding_dim)
        self.mask_tokens = nn.Embedding(num_mask_tokens, transformer.embedding_dim)

    def forward(self, image: Tensor, image_pe: Tensor, prompts: Tensor) -> Tensor:
        """Lets prompts and image attend to each other.

        Args:
            image: (M, H W, C), dense prompt included.
            image_pe: (1, H W, C).
            prompts: sparse embeddings, (M, T, C).

        Returns:
            Image side after the last two-way layer, (M, H W, C). SAM's final attention from tokens
            to image is for its mask heads alone, and left out.
        """
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(len(prompts), -1, -1), prompts], dim=1)
        queries, keys = tokens, image
        for layer in self.transformer.layers:
            queries, keys = two_way_layer(layer, queries, keys, tokens, image_pe)
        return keys


class SamBlock(nn.Module):
    """``(F_v^k)' = BCA(SA(prompts^k), F_v)``, ESC-Net eq. 2, on the modules of segment_anything.

    Holds ``prompt_encoder`` and ``mask_decoder`` under the keys of an official checkpoint. Weights
    that this use of SAM never reaches (boxes, negative points, the final attention) are kept, so
    that the keys stay official, and frozen.
    """

    def __init__(
        self,
        *,
        prompt_encoder: PromptEncoder,
        transformer: TwoWayTransformer,
        num_mask_tokens: int = 4,
        use_points: bool = True,
        use_masks: bool = True,
        mask_values: str = "probability",
    ) -> None:
        """Composes the block from built modules.

        Args:
            prompt_encoder: SAM's; its nominal sizes only scale coordinates.
            transformer: SAM's.
            num_mask_tokens: mask tokens of the checkpoint.
            use_points: give it the pseudo points; otherwise all of them are "not a point".
            use_masks: give it the pseudo masks; otherwise ``no_mask_embed``.
            mask_values: "probability" or "logit".

        Raises:
            ValueError: unknown ``mask_values``.
        """
        super().__init__()
        check_choice("MODEL.ESCNET.MASK_VALUES", mask_values, ("probability", "logit"))
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = TokenDecoder(transformer, num_mask_tokens)
        self.use_points = use_points
        self.use_masks = use_masks
        self.mask_values = mask_values
        self._freeze_unused()

    @property
    def embed_dim(self) -> int:
        """SAM's channels C."""
        return self.prompt_encoder.embed_dim

    def image_position(self, height: int, width: int) -> Tensor:
        """Computes SAM's ``get_dense_pe`` on this grid, (1, H W, C)."""
        layer = self.prompt_encoder.pe_layer
        # As for points: high frequencies, which half precision cannot hold.
        with torch.autocast(layer.positional_encoding_gaussian_matrix.device.type, enabled=False):
            return layer((height, width)).flatten(1).t().unsqueeze(0)

    def forward(
        self, image: Tensor, image_pe: Tensor, points: Tensor, point_labels: Tensor, masks: Tensor
    ) -> Tensor:
        """Refines image features, one prompt set per row.

        Args:
            image: (M, C, H, W).
            image_pe: (1, H W, C) of :meth:`image_position`.
            points: (M, N, 2), (x, y) in patches.
            point_labels: (M, N), 1 or -1.
            masks: (M, H, W), probability in [0, 1].

        Returns:
            (M, H W, C).
        """
        # Position encodings carry high frequencies that half precision cannot hold.
        with torch.autocast(image.device.type, enabled=False):
            sparse = self._sparse_embeddings(points, point_labels, masks.shape[-2:])
        dense = self._dense_embeddings(masks, (point_labels == 1).any(dim=1))
        return self.mask_decoder(image.flatten(2).transpose(1, 2) + dense, image_pe, sparse)

    def _sparse_embeddings(self, points: Tensor, labels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Encodes points, (M, N + 1, C): SAM adds one "not a point" where no box is given."""
        if not self.use_points:
            labels = torch.full_like(labels, -1)
        # SAM divides (x + 0.5) by its nominal input size: express patch centers in that frame.
        height, width = self.prompt_encoder.input_image_size
        scale = points.new_tensor([width / grid[1], height / grid[0]])
        nominal = (points + 0.5) * scale - 0.5
        sparse, _ = self.prompt_encoder(points=(nominal, labels), boxes=None, masks=None)
        return sparse

    def _dense_embeddings(self, masks: Tensor, has_foreground: Tensor) -> Tensor:
        """Encodes masks, (M, H W, C), empty ones as ``no_mask_embed``; (1, 1, C) without masks."""
        encoder = self.prompt_encoder
        no_mask = encoder.no_mask_embed.weight
        if not self.use_masks:
            return no_mask.unsqueeze(0)
        if self.mask_values == "logit":
            masks = torch.logit(masks).clamp(-_MAX_LOGIT, _MAX_LOGIT)
        height, width = masks.shape[-2:]
        resized = F.interpolate(
            masks.unsqueeze(1), size=(4 * height, 4 * width), mode="bilinear", align_corners=False
        )
        features = encoder.mask_downscaling[:-1](resized).flatten(2).transpose(1, 2)
        # SAM's last layer is a 1x1 convolution. Its weight, its bias and what stands for "no mask"
        # are one product here, in the layout of the image tokens. All three stay in the graph, so
        # that each process of a distributed run has gradients for the same parameters, whatever
        # its images hold.
        foreground = has_foreground.view(-1, 1, 1).to(features.dtype).expand(-1, height * width, 1)
        inputs = torch.cat([features * foreground, foreground, 1 - foreground], dim=2)
        last = encoder.mask_downscaling[-1]
        weight = torch.cat([last.weight.flatten(1), last.bias.unsqueeze(1), no_mask.t()], dim=1)
        return F.linear(inputs, weight)

    def _freeze_unused(self) -> None:
        encoder, transformer = self.prompt_encoder, self.mask_decoder.transformer
        negative_point, positive_point, *box_corners = encoder.point_embeddings
        unused = [
            negative_point,
            *box_corners,
            transformer.final_attn_token_to_image,
            transformer.norm_final_attn,
        ]
        if not self.use_points:
            unused.append(positive_point)
        if not self.use_masks:
            unused.append(encoder.mask_downscaling)
        for module in unused:
            module.requires_grad_(False)
