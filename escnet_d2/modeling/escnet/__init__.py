"""ESC-Net: pseudo prompts, ESC-Blocks, decoder, head."""

from .decoder import MaskDecoder
from .head import ESCNetHead, HeadOutput
from .pseudo_prompts import PseudoPromptGenerator

__all__ = [
    "ESCNetHead",
    "HeadOutput",
    "MaskDecoder",
    "PseudoPromptGenerator",
]
