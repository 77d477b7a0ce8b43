"""CLIP on open_clip: dense image features, text embeddings, fine-tuning policies."""

from .attention import SplitAttention
from .encoder import ClipEncoder, build_clip_model
from .finetune import set_trainable
from .templates import prompt_templates

__all__ = [
    "ClipEncoder",
    "SplitAttention",
    "build_clip_model",
    "prompt_templates",
    "set_trainable",
]
