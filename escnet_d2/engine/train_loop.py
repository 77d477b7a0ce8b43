"""One optimizer step: mixed precision, gradient accumulation, several processes."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .precision import autocast, grad_scaler


class AccumulatingTrainer(SimpleTrainer):
    """Detectron2's SimpleTrainer with mixed precision and several mini-batches per step.

    The gradient of a step is the mean over its mini-batches and processes. That equals one big
    batch as far as the loss is a mean over images.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        accumulation_steps: int = 1,
    ) -> None:
        """Takes what it trains.

        Args:
            model: possibly wrapped for distributed training; returns a dict of scalar losses.
            optimizer: over the parameters of ``model``.
            device: of ``model``.
            dtype: of autocast; float16 scales the loss, float32 is plain training.
            accumulation_steps: mini-batches per optimizer step.
        """
        super().__init__(model, None, optimizer)
        self.device = device
        self.dtype = dtype
        self.accumulation_steps = accumulation_steps
        self.grad_scaler = grad_scaler(device, dtype)

    def start_loader(self, data_loader: Iterable) -> None:
        """Takes an endless loader and starts it, with all that it draws from random generators."""
        self.data_loader = data_loader
        self._data_loader_iter_obj = iter(data_loader)

    def run_step(self) -> None:
        """Reads ``accumulation_steps`` mini-batches and takes one optimizer step.

        Raises:
            FloatingPointError: on all processes, if a loss of any is infinite or NaN.
        """
        if not self.model.training:
            raise RuntimeError("The model was left in eval mode.")
        data_time = 0.0
        losses: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        self.optimizer.zero_grad()
        for index in range(self.accumulation_steps):
            start = time.perf_counter()
            batch = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            is_last = index == self.accumulation_steps - 1
            for name, loss in self._accumulate_gradients(batch, synchronize=is_last).items():
                losses[name] = losses[name] + loss
        self.after_backward()
        # Before the step, so that a loss that is not finite leaves the weights as they were.
        self._check_finite(losses)
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _accumulate_gradients(self, batch: list[dict], *, synchronize: bool) -> dict[str, Tensor]:
        """Adds a mini-batch's share of the gradient; returns its share of the losses."""
        is_distributed = isinstance(self.model, DistributedDataParallel)
        apart = is_distributed and not synchronize
        with self.model.no_sync() if apart else contextlib.nullcontext():
            with autocast(self.device, self.dtype):
                shares = {
                    name: loss / self.accumulation_steps for name, loss in self.model(batch).items()
                }
            self.grad_scaler.scale(sum(shares.values())).backward()
        return {name: share.detach() for name, share in shares.items()}

    def _check_finite(self, losses: dict[str, Tensor]) -> None:
        # Detectron2 raises on the main process alone, and the others would wait for it.
        values = {name: loss.item() for name, loss in losses.items()}
        if not all(comm.all_gather(all(map(math.isfinite, values.values())))):
            raise FloatingPointError(
                f"A loss became infinite or NaN at iteration {self.iter}; here they are {values}."
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns iteration, optimizer and loss scale; tensors and plain containers only."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`; without float16 the loss scale is left alone."""
        super().load_state_dict(state_dict)
        # A scaler that is switched off stores nothing, and refuses to load nothing when it is on.
        if state_dict["grad_scaler"]:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
