"""Semantic segmentation scores on Detectron2's evaluator interface."""

from .sem_seg_evaluator import SemSegEvaluator
from .tables import write_summary

__all__ = ["SemSegEvaluator", "write_summary"]
