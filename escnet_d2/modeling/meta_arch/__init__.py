"""Meta-architectures, registered with Detectron2 on import."""

from .escnet import ESCNet

__all__ = ["ESCNet"]
