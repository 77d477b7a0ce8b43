"""The open-vocabulary benchmarks. Importing this room registers them."""

from .builtin import DatasetStatus, dataset_status, register_builtin
from .builtin_meta import builtin_meta

register_builtin()

__all__ = ["DatasetStatus", "builtin_meta", "dataset_status", "register_builtin"]
