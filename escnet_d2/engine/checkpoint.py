"""Detectron2's checkpointer, strict about files and complete about random states."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import yaml
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from escnet_d2.weights import (
    WeightsError,
    load_checkpoint_file,
    load_state_dict,
    model_weights_path,
)

from .random_state import get_random_state


class TrainingCheckpointer(DetectionCheckpointer):
    """Saves and loads model, optimizer, schedule, iteration and each process's random state.

    Files hold the run's configuration too, and so say of what model they are. They hold tensors and
    plain containers only and are read with ``weights_only``. Every process calls :meth:`save`; the
    main one writes. Every process reads, so the files must be on storage that all of them see.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, cfg: CfgNode | None = None, **others: Any
    ) -> None:
        """Remembers what to save.

        Args:
            model: whose weights are saved and loaded.
            save_dir: where :meth:`save` writes.
            cfg: of the run, stored in each file but for where it ran; not needed to load.
            **others: checkpointables by name, as of Detectron2's checkpointer.
        """
        super().__init__(model, save_dir, **others)
        self._config = {}
        if cfg is not None:
            config = yaml.safe_load(cfg.dump())
            del config["OUTPUT_DIR"], config["MODEL"]["WEIGHTS"], config["MODEL"]["DEVICE"]
            self._config = {"config": config}

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``<save_dir>/<name>.pth``; a collective call.

        Args:
            name: of the file, without its ending.
            **kwargs: further data to store.
        """
        super().save(name, random_states=comm.gather(get_random_state()), **self._config, **kwargs)

    def load(self, path: str, checkpointables: Sequence[str] | None = None) -> dict[str, Any]:
        """Reads a checkpoint.

        Args:
            path: a file, or the name of shipped weights; an empty path leaves the model as it is.
            checkpointables: what to load beside the model; None means everything, to go on with a
                run, and then the file must hold nothing that the model lacks.

        Returns:
            What was stored and not consumed, such as ``random_states``.

        Raises:
            FileNotFoundError: no such file.
            WeightsError: not a checkpoint, truncated, or of another model; the message names it.
        """
        path = model_weights_path(path)
        if path and "://" not in path and not os.path.isfile(path):
            raise FileNotFoundError(f"Checkpoint {path} does not exist.")
        self._path, self._is_whole = path, checkpointables is None and bool(self.checkpointables)
        try:
            return super().load(path, checkpointables)
        except OSError as error:
            raise WeightsError(f"Checkpoint {path} cannot be read: {error}") from error
        except (ValueError, KeyError) as error:
            raise WeightsError(f"Checkpoint {path} does not fit this run: {error}") from error
        finally:
            # Detectron2 forgets to reset it after an error and then refuses to load again.
            self._parsed_url_during_load = None

    def get_checkpoint_file(self) -> str:
        """Returns the path that ``last_checkpoint`` in the folder names; empty without one.

        Raises:
            WeightsError: it names no file.
        """
        if not self.has_checkpoint():
            return ""
        try:
            file = super().get_checkpoint_file()
        except UnicodeDecodeError:
            file = ""
        if not os.path.isfile(file):
            raise WeightsError(
                f"{os.path.join(self.save_dir, 'last_checkpoint')} names no checkpoint that is "
                f"there, but {os.path.basename(file)!r}: write the name of one into it."
            )
        return file

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".safetensors"):
            # Only weights, and possibly shipped ones, whose unused token rows are left out.
            return {"model": load_state_dict(filename)}
        loaded = load_checkpoint_file(filename)
        weights = loaded.get("model", loaded)
        if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
            raise WeightsError(f"{filename} is not a checkpoint: it holds no named model tensors.")
        return loaded if "model" in loaded else {"model": loaded}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        names = {name.removeprefix("module.") for name in checkpoint["model"]}
        if names.isdisjoint(self.model.state_dict()):
            raise WeightsError(
                f"Checkpoint {self._path} is of another model: none of its {len(names)} tensors "
                f"has a name of {type(self.model).__name__}'s."
            )
        incompatible = super()._load_model(checkpoint)
        problems = [
            f"{name} is {tuple(theirs)} in the file, {tuple(ours)} in the model"
            for name, theirs, ours in incompatible.incorrect_shapes
        ]
        # Under MODEL.WEIGHTS the model is built without CLIP's and SAM's own weights: what the file
        # lacks would stay random.
        problems += [f"{name} is missing in the file" for name in incompatible.missing_keys]
        if self._is_whole:
            problems += [f"{name} is not in the model" for name in incompatible.unexpected_keys]
        if problems:
            raise WeightsError(
                f"Checkpoint {self._path} does not fit the configured model: "
                + "; ".join(problems[:5])
                + (f"; and {len(problems) - 5} more." if len(problems) > 5 else ".")
            )
        return incompatible
