"""CLIP on open_clip: dense image features, text embeddings, fine-tuning policies."""

from .attention import SplitAttention
from .build import build_clip_model
from .encoder import ClipEncoder
from .templates import prompt_templates
from .text import TextEncoder

__all__ = [
    "ClipEncoder",
    "SplitAttention",
    "TextEncoder",
    "build_clip_model",
    "prompt_templates",
]
