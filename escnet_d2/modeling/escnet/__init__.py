"""The parts of ESC-Net: pseudo prompts, ESC-Blocks, decoder, head."""

from .decoder import MaskDecoder
from .esc_block import EscBlock
from .head import ESCNetHead, HeadOutput
from .pseudo_prompts import PseudoPromptGenerator
from .vision_language_fusion import VisionLanguageFusion

__all__ = [
    "ESCNetHead",
    "EscBlock",
    "HeadOutput",
    "MaskDecoder",
    "PseudoPromptGenerator",
    "VisionLanguageFusion",
]
