"""SAM's own image encoder, built to the sizes of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.weights import WeightsError, load_state_dict, sam_weights_file

_PREFIX = "image_encoder."
# Of SAM's normalization, on the scale 0 to 255; its checkpoints do not hold them.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class SamImageEncoder(nn.Module):
    """``ImageEncoderViT`` and what comes before it; frozen.

    Attributes:
        encoder: the module of segment_anything.
    """

    def __init__(self, encoder: ImageEncoderViT) -> None:
        """Wraps a built encoder."""
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        for name, values in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def norm(self) -> nn.Module:
        """The last layer of the neck."""
        return self.encoder.neck[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Encodes images, squashed to the encoder's square.

        Args:
            images: RGB, 0 to 255, (B, 3, h, w).

        Returns:
            Features before the neck's last norm, normalized over the channels: (B, C, H, W). With
            :attr:`norm`'s weight and bias they are what SAM's mask decoder reads.
        """
        size = (self.encoder.img_size, self.encoder.img_size)
        images = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False)
        x = self.encoder.patch_embed((images - self.pixel_mean) / self.pixel_std)
        x = x + self.encoder.pos_embed
        for block in self.encoder.blocks:
            x = block(x)
        x = self.encoder.neck[:-1](x.permute(0, 3, 1, 2))
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=self.norm.eps).permute(
            0, 3, 1, 2
        )


def build_sam_image_encoder(weights: str) -> SamImageEncoder:
    """Builds the image encoder of a SAM checkpoint, ViT-B, -L, -H or of other sizes.

    Args:
        weights: as MODEL.SAM.WEIGHTS.

    Raises:
        WeightsError: the file is missing, or holds no image encoder with relative positions.
    """
    path = sam_weights_file(weights)
    tensors = {
        name[len(_PREFIX) :]: value
        for name, value in load_state_dict(path).items()
        if name.startswith(_PREFIX)
    }
    try:
        encoder = _encoder_of_sizes(tensors)
        encoder.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{path} holds no image encoder of SAM: {error}") from error
    return SamImageEncoder(encoder)


def _encoder_of_sizes(tensors: Mapping[str, Tensor]) -> ImageEncoderViT:
    patch_size = tensors["patch_embed.proj.weight"].shape[-1]
    _, grid, _, width = tensors["pos_embed"].shape
    depth = 1 + max(
        int(found[1]) for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))
    )
    # Relative positions reach over the whole grid, or over the windows of other blocks.
    reach = [(len(tensors[f"blocks.{i}.attn.rel_pos_h"]) + 1) // 2 for i in range(depth)]
    return ImageEncoderViT(
        img_size=grid * patch_size,
        patch_size=patch_size,
        embed_dim=width,
        depth=depth,
        num_heads=width // tensors["blocks.0.attn.rel_pos_h"].shape[1],
        mlp_ratio=len(tensors["blocks.0.mlp.lin1.weight"]) / width,
        out_chans=len(tensors["neck.0.weight"]),
        qkv_bias="blocks.0.attn.qkv.bias" in tensors,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=min(reach) if min(reach) < grid else 0,
        global_attn_indexes=tuple(i for i in range(depth) if reach[i] == grid),
    )
