"""Operations and small blocks that know nothing of CLIP, SAM or data sets."""

from .class_attention import ClassAttention
from .class_subsets import class_chunks, map_chunks
from .correlation import image_text_correlation
from .kmeans_reference import MAX_SIDE
from .masked_kmeans import Clusters, masked_kmeans
from .window_attention import GuidedSwinBlock

__all__ = [
    "MAX_SIDE",
    "ClassAttention",
    "Clusters",
    "GuidedSwinBlock",
    "class_chunks",
    "image_text_correlation",
    "map_chunks",
    "masked_kmeans",
]
