"""Vision-language fusion (ESC-Net section 3.4, figure 4).

Shapes: B images, K classes, H x W patches, C channels of the embedded correlation.
"""

from __future__ import annotations

from torch import Tensor, nn

from escnet_d2.layers import ClassAttention, GuidedSwinBlock, map_chunks


class VisionLanguageFusion(nn.Module):
    """Refines the embedded correlation by the image, class by class, then by the text.

    Image guidance: the refined image features join a pair of Swin blocks (the second one shifted);
    text guidance: linear attention over the classes.
    """

    def __init__(
        self,
        *,
        dim: int,
        image_dim: int,
        image_guidance_dim: int,
        text_dim: int,
        text_guidance_dim: int,
        window_size: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.image_projection = nn.Sequential(
            nn.Linear(image_dim, image_guidance_dim), nn.LayerNorm(image_guidance_dim)
        )
        self.text_projection = nn.Sequential(
            nn.Linear(text_dim, text_guidance_dim), nn.LayerNorm(text_guidance_dim)
        )
        self.image_blocks = nn.ModuleList(
            GuidedSwinBlock(
                dim=dim,
                guidance_dim=image_guidance_dim,
                num_heads=num_heads,
                window_size=window_size,
                shifted=shifted,
                mlp_ratio=mlp_ratio,
            )
            for shifted in (False, True)
        )
        self.class_attention = ClassAttention(
            dim=dim, text_dim=text_guidance_dim, num_heads=num_heads, mlp_ratio=mlp_ratio
        )

    def forward(self, x: Tensor, image: Tensor, text: Tensor, chunk_size: int = 0) -> Tensor:
        """Refines the correlation.

        Args:
            x: embedded correlation, (B, K, H, W, C).
            image: refined image features, (B, H, W, image_dim).
            text: unit text features, (B, K, text_dim).
            chunk_size: classes at a time, 0 for all.

        Returns:
            (B, K, H, W, C).
        """
        guidance = self.image_projection(image)
        embedded = [block.embed_guidance(guidance) for block in self.image_blocks]

        def refine(part: Tensor) -> Tensor:
            for block, own in zip(self.image_blocks, embedded):
                part = block(part, *own)
            return part

        x = map_chunks(refine, x, chunk_size)
        return self.class_attention(x, self.text_projection(text), chunk_size)
