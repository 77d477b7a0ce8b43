"""Pseudo prompt generator (ESC-Net section 3.2, figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from escnet_d2.config import check_choice
from escnet_d2.layers import masked_kmeans
from escnet_d2.structures import PseudoPrompts


class PseudoPromptGenerator(nn.Module):
    """Turns class maps into points and masks for SAM, for all images and classes at once.

    softmax -> probability map; threshold alpha -> binary map; k-means over the positions of its
    pixels -> regions; the most probable pixel of each region is its pseudo point, the probability
    inside it its pseudo mask. No parameters, no gradient.
    """

    def __init__(
        self,
        *,
        softmax: str = "relative",
        alpha: float = 0.8,
        num_points: int = 5,
        kmeans_iterations: int = 10,
    ) -> None:
        """See the keys of MODEL.ESCNET for the arguments.

        Raises:
            ValueError: unknown ``softmax``, ``alpha`` outside (0, 1), ``num_points`` outside 1..8.
        """
        super().__init__()
        check_choice("MODEL.ESCNET.SOFTMAX", softmax, ("relative", "class", "spatial"))
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"MODEL.ESCNET.ALPHA must be in (0, 1), got {alpha}.")
        if not 1 <= num_points <= 8:
            raise ValueError(f"MODEL.ESCNET.NUM_POINTS must be 1 to 8, got {num_points}.")
        self.softmax = softmax
        self.alpha = alpha
        self.num_points = num_points
        self.kmeans_iterations = kmeans_iterations

    @torch.no_grad()
    def forward(self, logits: Tensor, prompted: Tensor | None = None) -> PseudoPrompts:
        """Generates prompts.

        Args:
            logits: class maps on the scale of a softmax, (B, K, H, W).
            prompted: images that get prompts, bool (B,); None for all.

        Returns:
            Prompts; classes without a pixel of at least alpha have no valid point.
        """
        probability = self.probability(logits)
        # Over that of the likeliest class it is 1 wherever a class wins, and says no patch is best.
        scores = logits.float().softmax(dim=1) if self.softmax == "relative" else probability
        if prompted is not None:
            probability = probability * prompted.view(-1, 1, 1, 1)
        return self.from_probability(probability, scores)

    @torch.no_grad()
    def from_probability(self, probability: Tensor, scores: Tensor | None = None) -> PseudoPrompts:
        """Generates prompts from probability maps.

        Args:
            probability: float32 (B, K, H, W) in [0, 1].
            scores: by which the best pixel of a region is chosen, same shape; default: the same.

        Returns:
            As :meth:`forward`.
        """
        clusters = masked_kmeans(
            probability if scores is None else scores,
            probability >= self.alpha,
            self.num_points,
            self.kmeans_iterations,
        )
        valid = clusters.counts > 0
        index = clusters.points.long().clamp(min=0)
        width = probability.shape[-1]
        points = torch.stack([index % width, index // width], dim=-1).float()
        return PseudoPrompts(
            points=points,
            point_labels=torch.where(valid, 1, -1),
            masks=probability * (clusters.labels >= 0),
            regions=clusters.labels,
        )

    def probability(self, logits: Tensor) -> Tensor:
        """Returns the probability map in [0, 1], float32, same shape as ``logits`` (B, K, H, W)."""
        logits = logits.float()
        if self.softmax == "relative":
            # Over that of the likeliest class: what alpha means does not depend on K.
            return (logits - logits.amax(dim=1, keepdim=True)).exp()
        if self.softmax == "class":
            return logits.softmax(dim=1)
        # A softmax over the pixels, divided by its own maximum.
        return (logits - logits.amax(dim=(2, 3), keepdim=True)).exp()
