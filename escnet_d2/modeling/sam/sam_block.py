"""SAM's prompt encoder and mask decoder as a block that finds masks and refines image features.

Shapes: M prompt sets (points and a mask each), N points, C = 256 SAM channels, H x W patches.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.layers.feed_forward import gelu

from .two_way_attention import tokens_from_image, two_way_layer

# SAM clamps nothing, but its own low-resolution logits rarely leave this range.
_MAX_LOGIT = 10.0


class SamBlock(nn.Module):
    """``(F_v^k)' = BCA(SA(prompts^k), F_v)``, ESC-Net eq. 2, on the modules of segment_anything.

    Holds ``prompt_encoder`` and ``mask_decoder`` under the keys of an official checkpoint. Weights
    that this use of SAM never reaches (boxes, negative points, the expected IoU, all masks but the
    first) are kept, so that the keys stay official, and frozen.
    """

    def __init__(
        self,
        *,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        use_points: bool = True,
        use_masks: bool = True,
        find_masks: bool = True,
        alpha: float = 0.1,
    ) -> None:
        """Composes the block from built modules.

        Args:
            prompt_encoder: SAM's; its nominal sizes only scale coordinates.
            mask_decoder: SAM's.
            use_points: give it the pseudo points; otherwise all of them are "not a point".
            use_masks: give it the pseudo masks; otherwise ``no_mask_embed``.
            find_masks: run SAM's mask head.
            alpha: probability at which a pseudo mask's logit is 0, SAM's "as likely in as out".
        """
        super().__init__()
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.use_points = use_points
        self.use_masks = use_masks
        self.find_masks = find_masks
        self.alpha = alpha
        self._freeze_unused()

    @property
    def embed_dim(self) -> int:
        """SAM's channels C."""
        return self.prompt_encoder.embed_dim

    def image_position(self, height: int, width: int) -> Tensor:
        """Computes SAM's ``get_dense_pe`` on this grid, (H W, C)."""
        layer = self.prompt_encoder.pe_layer
        # As for points: high frequencies, which half precision cannot hold.
        with torch.autocast(layer.positional_encoding_gaussian_matrix.device.type, enabled=False):
            return layer((height, width)).flatten(1).t()

    def forward(
        self, image: Tensor, image_pe: Tensor, points: Tensor, point_labels: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Refines image features and finds a mask, one prompt set per row.

        Args:
            image: (1, C, H, W), which all sets see.
            image_pe: (H W, C) of :meth:`image_position`.
            points: (M, N, 2), (x, y) in patches.
            point_labels: (M, N), 1 or -1.
            masks: (M, H, W), probability in [0, 1].

        Returns:
            Image features after the last two-way layer, (M, H W, C), and SAM's first mask, logits
            (M, 4 H, 4 W), or None without ``find_masks``.
        """
        grid = masks.shape[-2:]
        # Position encodings carry high frequencies that half precision cannot hold.
        with torch.autocast(image.device.type, enabled=False):
            sparse = self._sparse_embeddings(points, point_labels, grid)
        dense = self._dense_embeddings(masks, (point_labels == 1).any(dim=1))
        decoder = self.mask_decoder
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        queries, keys = tokens, image.squeeze(0).flatten(1).t() + dense
        for layer in decoder.transformer.layers:
            queries, keys = two_way_layer(layer, queries, keys, tokens, image_pe)
        if not self.find_masks:
            return keys, None
        last = decoder.transformer.final_attn_token_to_image
        # The expected IoU is the first token, the mask without ambiguity the second: no other has
        # to look at the image once more.
        token = queries[:, 1:2]
        read = tokens_from_image(last, token + tokens[:, 1:2], keys + image_pe, keys)
        token = decoder.transformer.norm_final_attn(token + read)
        return keys, self._mask(token.squeeze(1), keys, grid)

    def _mask(self, token: Tensor, keys: Tensor, grid: tuple[int, int]) -> Tensor:
        """SAM's mask head: a mask token (M, C), image features (M, H W, C) to (M, 4 H, 4 W)."""
        # SAM's transposed convolutions, whose squares do not overlap, are linear layers that give
        # each cell its four children: channels stay last, and only the mask is put in order.
        first, norm, _, second, _ = self.mask_decoder.output_upscaling
        children = gelu(_layer_norm(norm, _children(first, keys)))  # (M, H W, 4, C / 4)
        children = gelu(_children(second, children))  # (M, H W, 4, 4, C / 8)
        weights = self.mask_decoder.output_hypernetworks_mlps[0](token)
        logits = torch.bmm(children.flatten(1, 3), weights.unsqueeze(2))
        H, W = grid
        cells = logits.view(-1, H, W, 2, 2, 2, 2)  # Rows and columns alternate.
        return cells.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * H, 4 * W)

    def _sparse_embeddings(self, points: Tensor, labels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Encodes points, (M, N + 1, C): SAM adds one "not a point" where no box is given."""
        if not self.use_points:
            labels = torch.full_like(labels, -1)
        # SAM divides (x + 0.5) by its nominal input size: express patch centers in that frame.
        height, width = self.prompt_encoder.input_image_size
        # One more that is none.
        points, labels = F.pad(points, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
        x, y = (points + 0.5).unbind(-1)
        nominal = torch.stack([x * (width / grid[1]), y * (height / grid[0])], dim=-1)
        encoder = self.prompt_encoder
        position = encoder.pe_layer.forward_with_coords(nominal, encoder.input_image_size)
        # SAM's own code assigns by boolean indices, for each of which the host waits for a GPU.
        return torch.where(
            (labels == 1).unsqueeze(2),
            position + encoder.point_embeddings[1].weight,
            encoder.not_a_point_embed.weight,
        )

    def _dense_embeddings(self, masks: Tensor, has_foreground: Tensor) -> Tensor:
        """Encodes masks, (M, H W, C), empty ones as ``no_mask_embed``; (1, C) without masks."""
        encoder = self.prompt_encoder
        no_mask = encoder.no_mask_embed.weight
        if not self.use_masks:
            return no_mask
        masks = pseudo_mask_logits(masks, self.alpha)
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
        encoder, decoder = self.prompt_encoder, self.mask_decoder
        negative_point, positive_point, *box_corners = encoder.point_embeddings
        unused = [
            negative_point,
            *box_corners,
            decoder.iou_prediction_head,
            *decoder.output_hypernetworks_mlps[1:],
        ]
        if not self.use_points:
            unused.append(positive_point)
        if not self.use_masks:
            unused.append(encoder.mask_downscaling)
        if not self.find_masks:
            unused += [
                decoder.output_upscaling,
                decoder.output_hypernetworks_mlps[0],
                decoder.transformer.final_attn_token_to_image,
                decoder.transformer.norm_final_attn,
            ]
        for module in unused:
            module.requires_grad_(False)


def _children(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Applies a 2 x 2 transposed convolution of stride 2 to cells, (..., in) to (..., 4, out)."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return F.linear(x, weight, layer.bias.repeat(4)).unflatten(-1, (4, -1))


def _layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """Applies SAM's ``LayerNorm2d``, whose channels come first, to channels that come last."""
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def pseudo_mask_logits(masks: Tensor, alpha: float) -> Tensor:
    """Puts pseudo masks on the scale of SAM's mask prompts.

    SAM learned from its own logits, whose sign tells in from out: ``logit(p) - logit(alpha)`` is
    above 0 where the probability is above the threshold.

    Args:
        masks: probability in [0, 1], 0 on the background.
        alpha: threshold of the foreground.

    Returns:
        Logits in [-10, 10], same shape.
    """
    threshold = torch.logit(masks.new_full((), alpha))
    return (torch.logit(masks) - threshold).clamp(-_MAX_LOGIT, _MAX_LOGIT)
