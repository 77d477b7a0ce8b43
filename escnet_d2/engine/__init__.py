"""Training, evaluation and prediction by configuration."""

from .checkpoint import TrainingCheckpointer
from .config_checks import check_config
from .config_files import available_configs, find_config
from .console import one_line_errors
from .identify import checkpoint_config
from .launch import launch
from .predictor import OpenVocabPredictor
from .setup import load_config, setup
from .trainer import Trainer

__all__ = [
    "OpenVocabPredictor",
    "Trainer",
    "TrainingCheckpointer",
    "available_configs",
    "check_config",
    "checkpoint_config",
    "find_config",
    "launch",
    "load_config",
    "one_line_errors",
    "setup",
]
