"""The open-vocabulary benchmarks. Importing this room registers them."""

from .builtin import dataset_status, register_builtin
from .builtin_meta import BENCHMARKS, all_datasets
from .mess import MESS_DATASETS, register_mess_datasets

register_builtin()

__all__ = [
    "BENCHMARKS",
    "MESS_DATASETS",
    "all_datasets",
    "dataset_status",
    "register_builtin",
    "register_mess_datasets",
]
