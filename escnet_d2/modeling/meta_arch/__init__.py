"""Meta-architectures, registered with Detectron2 on import."""

from .cat_seg import CATSeg
from .escnet import ESCNet
from .sam_mi import SAMMI
from .sed import SED
from .two_stage_sam import TwoStageSAM
from .zero_shot_clip import ZeroShotCLIP

__all__ = ["SAMMI", "SED", "CATSeg", "ESCNet", "TwoStageSAM", "ZeroShotCLIP"]
