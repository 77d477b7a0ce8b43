"""SAM-MI: a point prompter for SAM, and the injection of its masks into the correlation."""

from .mask_injection import MaskInjection
from .point_prompter import PointPrompter

__all__ = ["MaskInjection", "PointPrompter"]
