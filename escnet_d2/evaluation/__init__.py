"""Semantic segmentation scores on Detectron2's evaluator interface."""

from .confusion import ClassCounts, confusion_matrix, top_confusions
from .sem_seg_evaluator import SemSegEvaluator
from .tables import write_summary

__all__ = [
    "ClassCounts",
    "SemSegEvaluator",
    "confusion_matrix",
    "top_confusions",
    "write_summary",
]
