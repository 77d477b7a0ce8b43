"""CAT-Seg's cost aggregation (arXiv 2303.11797), under the names of its release."""

from .aggregator import CostAggregator

__all__ = ["CostAggregator"]
