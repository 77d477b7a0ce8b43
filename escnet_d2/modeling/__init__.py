"""Models: CLIP, SAM blocks and three methods; importing this room registers the latter."""

from .meta_arch import SAMMI, SED, CATSeg, ESCNet, TwoStageSAM, ZeroShotCLIP

__all__ = ["SAMMI", "SED", "CATSeg", "ESCNet", "TwoStageSAM", "ZeroShotCLIP"]
