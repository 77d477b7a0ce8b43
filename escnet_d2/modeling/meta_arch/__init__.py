"""Meta-architectures, registered with Detectron2 on import."""

from .cat_seg import CATSeg
from .escnet import ESCNet
from .sed import SED
from .zero_shot_clip import ZeroShotCLIP

__all__ = ["SED", "CATSeg", "ESCNet", "ZeroShotCLIP"]
