"""Data loaders for training and testing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MapDataset,
    build_detection_train_loader,
)
from detectron2.data.build import trivial_batch_collator
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader

from .semantic_mapper import SemanticDatasetMapper
from .training_stream import ResumableTrainingSampler, TrainingStream


def build_train_loader(cfg: CfgNode, *, start_iter: int = 0) -> DataLoader:
    """Builds the endless loader of ``DATASETS.TRAIN``.

    What iteration n reads, augmentation included, depends on ``SEED`` and n only: not on
    ``DATALOADER.NUM_WORKERS``, nor on whether training was resumed. With a negative ``SEED`` the
    seed is drawn, the same for all processes, and a resumed run reads other data.

    Args:
        cfg: the configuration.
        start_iter: optimizer iterations already done; each reads ``SOLVER.GRAD_ACCUM_STEPS``
            batches of ``SOLVER.IMS_PER_BATCH`` images over all processes.

    Returns:
        A loader of lists with ``SOLVER.IMS_PER_BATCH / number of processes`` samples.

    Raises:
        FileNotFoundError: a data set's folder does not exist.
        ValueError: a config key has a value that cannot work; names the key.
    """
    images_per_batch, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if images_per_batch <= 0 or images_per_batch % processes:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH must be a positive multiple of the number of processes "
            f"({processes}), got {images_per_batch}."
        )
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ValueError(
            "DATALOADER.SAMPLER_TRAIN must be TrainingSampler, got "
            f"{cfg.DATALOADER.SAMPLER_TRAIN!r}: the others need instance annotations or cannot be "
            "resumed."
        )
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    dataset_dicts = _dataset_dicts(cfg.DATASETS.TRAIN, "DATASETS.TRAIN")
    stream = TrainingStream(
        DatasetFromList(dataset_dicts, copy=False),
        mapper=SemanticDatasetMapper(cfg, is_train=True),
        seed=seed,
    )
    images_per_iteration = cfg.SOLVER.GRAD_ACCUM_STEPS * images_per_batch
    return build_detection_train_loader(
        stream,
        mapper=None,  # The stream maps, with a seed of its own for each sample.
        sampler=ResumableTrainingSampler(start=start_iter * images_per_iteration),
        total_batch_size=images_per_batch,
        aspect_ratio_grouping=False,  # It would need the sizes of all images beforehand.
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=seed,  # Otherwise it draws from the generator that the model uses.
    )


def build_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """Builds the loader of one data set for evaluation, each image once over all processes.

    Args:
        cfg: the configuration.
        dataset_name: a registered data set.

    Returns:
        A loader of lists of up to ``TEST.IMS_PER_BATCH`` samples.

    Raises:
        FileNotFoundError: the data set's folder does not exist.
        ValueError: no such data set, or a class list that does not fit it.
    """
    dataset = DatasetFromList(_dataset_dicts([dataset_name], "DATASETS.TEST"), copy=False)
    mapper = SemanticDatasetMapper(cfg, is_train=False, dataset_names=[dataset_name])
    return DataLoader(
        MapDataset(dataset, mapper),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        sampler=InferenceSampler(len(dataset)),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
        # Detectron2's builder takes no generator, and a loader without one draws from the global
        # generator when it starts: evaluating would then change the training that goes on after it.
        generator=torch.Generator(),
    )


def _dataset_dicts(names: Sequence[str], key: str) -> list[dict[str, Any]]:
    """Lists the samples of all data sets in order, each with its ``dataset_name``."""
    unknown = [name for name in names if name not in DatasetCatalog]
    if unknown:
        raise ValueError(
            f"{key} names data sets that are not registered: {', '.join(unknown)}. Folders of "
            "your own are registered by DATASETS.FOLDERS or register_prepared_folder."
        )
    # Data sets registered by others do not carry their name.
    dicts = [
        {**sample, "dataset_name": name} for name in names for sample in DatasetCatalog.get(name)
    ]
    if not dicts:
        raise ValueError(f"{key} has no image: it names {', '.join(names) or 'no data set'}.")
    return dicts
