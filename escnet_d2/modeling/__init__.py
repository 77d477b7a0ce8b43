"""Models: CLIP, SAM blocks and three methods; importing this room registers the latter."""

from .meta_arch import SED, CATSeg, ESCNet, ZeroShotCLIP

__all__ = ["SED", "CATSeg", "ESCNet", "ZeroShotCLIP"]
