"""The text-guided sparse point prompter of SAM-MI: where SAM should look.

Shapes: B images, K classes, P templates, D channels of CLIP's shared space, H x W patches.
"""

from __future__ import annotations

from torch import Tensor, nn

from escnet_d2.layers import image_text_correlation


class PointPrompter(nn.Module):
    """Two linear heads, of pixels and of texts, whose cosines tell how sure a patch is.

    Both start as the identity, so that the first points are those of CLIP's own correlation. The
    heads alone learn from their loss: it must not disturb the features that the answer reads.
    """

    def __init__(self, dim: int) -> None:
        """Takes D."""
        super().__init__()
        self.pixel_head = nn.Linear(dim, dim, bias=False)
        self.text_head = nn.Linear(dim, dim, bias=False)
        for head in (self.pixel_head, self.text_head):
            nn.init.eye_(head.weight)

    def forward(self, dense: Tensor, text: Tensor, temperature: Tensor) -> Tensor:
        """Scores classes at patches.

        Args:
            dense: CLIP's dense features, (B, D, H, W).
            text: unit text embeddings, (K, P, D).
            temperature: factor that CLIP was trained with, a scalar.

        Returns:
            Class logits, (B, K, H, W), with gradient to the two heads only.
        """
        pixels = self.pixel_head(dense.detach().movedim(1, -1)).movedim(-1, 1)
        correlation = image_text_correlation(pixels, self.text_head(text.detach()))
        return temperature.detach() * correlation.mean(dim=1)
