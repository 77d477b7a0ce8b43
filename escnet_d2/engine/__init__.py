"""Training, evaluation and prediction by configuration."""

from .checkpoint import TrainingCheckpointer
from .config_files import available_configs, find_config, merge_config_file, merge_options
from .launch import launch
from .predictor import OpenVocabPredictor
from .setup import argument_parser, check_config, load_config, setup
from .trainer import Trainer

__all__ = [
    "OpenVocabPredictor",
    "Trainer",
    "TrainingCheckpointer",
    "argument_parser",
    "available_configs",
    "check_config",
    "find_config",
    "launch",
    "load_config",
    "merge_config_file",
    "merge_options",
    "setup",
]
