"""SED's simple encoder-decoder (arXiv 2311.15537), under the names of its release."""

from .decoder import GradualDecoder

__all__ = ["GradualDecoder"]
