"""An adapter from CLIP's features to those that SAM's mask decoder reads, fitted without labels.

Shapes: B images, H x W patches, C = 256 SAM channels, F channels of CLIP's features side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.structures import ClipFeatures

# As of the last layers of SAM's neck.
_KERNEL = 3
_EPS = 1e-6


class SamAdapter(nn.Module):
    """A 3 x 3 convolution of CLIP's dense and intermediate features, and a layer norm.

    SAM's image encoder ends likewise: with its norm's weights and a convolution fitted by
    :class:`AdapterFit`, features come out on SAM's scale.
    """

    def __init__(self, clip_channels: int, sam_dim: int) -> None:
        """Takes F and C."""
        super().__init__()
        self.conv = nn.Conv2d(clip_channels, sam_dim, _KERNEL, padding=_KERNEL // 2)
        self.norm = nn.LayerNorm(sam_dim, eps=_EPS)

    @torch.no_grad()
    def take(self, weight: Tensor, norm: nn.Module) -> None:
        """Takes the map of :meth:`AdapterFit.solve` and the last layer of SAM's neck."""
        self.conv.weight.copy_(weight[:-1].t().view_as(self.conv.weight))
        self.conv.bias.copy_(weight[-1])
        self.norm.weight.copy_(norm.weight)
        self.norm.bias.copy_(norm.bias)

    def forward(self, features: ClipFeatures) -> Tensor:
        """Maps features to (B, C, H, W); without gradient where the adapter is frozen."""
        mapped = self.conv(joined_features(features)).permute(0, 2, 3, 1)
        mapped = self.norm(mapped).permute(0, 3, 1, 2)
        return mapped if self.conv.weight.requires_grad else mapped.detach()


def joined_features(features: ClipFeatures) -> Tensor:
    """Lays dense and intermediate features side by side, (B, F, H, W)."""
    return torch.cat([features.dense, *features.intermediate], dim=1)


class AdapterFit:
    """Ridge regression from 3 x 3 patches of CLIP's features to SAM's, summed up in float64.

    Attributes:
        num_patches: patches seen so far.
    """

    def __init__(self) -> None:
        """Starts from nothing."""
        self.num_patches = 0
        self._xx = self._xy = self._yy = self._y = 0.0

    def add(self, features: ClipFeatures, target: Tensor) -> None:
        """Sums up a batch.

        Args:
            features: of B images.
            target: what SAM's neck gives before its last norm, normalized over the channels, on any
                grid; (B, C, h, w).
        """
        x, y = _pairs(features, target)
        self._xx = self._xx + (x.t() @ x).double()
        self._xy = self._xy + (x.t() @ y).double()
        self._yy = self._yy + (y * y).sum(dim=0).double()
        self._y = self._y + y.sum(dim=0).double()
        self.num_patches += len(x)

    def solve(self, ridge: float = 1e-4) -> Tensor:
        """Solves for the map, (9 F + 1, C), its bias in the last row.

        Args:
            ridge: penalty as a share of the features' mean square.
        """
        penalty = torch.eye(len(self._xx), dtype=torch.float64, device=self._xx.device)
        penalty[-1, -1] = 0
        penalty *= ridge * self._xx.diagonal()[:-1].mean()
        return torch.linalg.solve(self._xx + penalty, self._xy)

    def explained(self, weight: Tensor) -> float:
        """Returns R2, the share of these patches' variance that a map explains."""
        fitted = (weight * (2 * self._xy - self._xx @ weight)).sum()
        total = (self._yy - self._y**2 / self.num_patches).sum()
        return float(1 - (self._yy.sum() - fitted) / total)


def _pairs(features: ClipFeatures, target: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what the convolution sees at each patch and a 1, (B H W, 9 F + 1), and its target."""
    x = joined_features(features)
    # SAM's patches may be smaller than CLIP's: their mean.
    y = F.adaptive_avg_pool2d(target, x.shape[2:]).flatten(2).transpose(1, 2).flatten(0, 1)
    x = F.unfold(x, _KERNEL, padding=_KERNEL // 2).transpose(1, 2).flatten(0, 1)
    return torch.cat([x, x.new_ones(len(x), 1)], dim=1), y
