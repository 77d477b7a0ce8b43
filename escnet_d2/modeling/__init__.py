"""Models: CLIP, SAM blocks, ESC-Net. Importing this room registers the meta-architectures."""

from .meta_arch import ESCNet

__all__ = ["ESCNet"]
