"""Data sets, vocabularies and loaders. Importing this room registers the benchmarks."""

from .class_lists import bundled_class_lists
from .datasets import dataset_status, register_mess_datasets
from .folder_dataset import register_folder_dataset, register_prepared_folder
from .loaders import build_test_loader, build_train_loader
from .semantic_mapper import SemanticDatasetMapper
from .training_stream import ResumableTrainingSampler, TrainingStream
from .vocabulary import resolve_vocabulary, vocabulary_of_dataset

__all__ = [
    "ResumableTrainingSampler",
    "SemanticDatasetMapper",
    "TrainingStream",
    "build_test_loader",
    "build_train_loader",
    "bundled_class_lists",
    "dataset_status",
    "register_folder_dataset",
    "register_mess_datasets",
    "register_prepared_folder",
    "resolve_vocabulary",
    "vocabulary_of_dataset",
]
