"""Number formats of training and inference."""

from __future__ import annotations

import torch

INFERENCE_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
MATMUL_PRECISIONS = ("highest", "high", "medium")
TRAINING_DTYPES = {name: INFERENCE_DTYPES[name] for name in ("float16", "bfloat16")}


def autocast(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """Runs what torch considers safe in ``dtype``; does nothing for float32.

    Args:
        device: where the tensors are.
        dtype: one of :data:`INFERENCE_DTYPES`.
    """
    enabled = dtype != torch.float32
    return torch.autocast(
        torch.device(device).type, dtype=dtype if enabled else None, enabled=enabled
    )


def grad_scaler(device: torch.device | str, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Loss scaling, which float16 needs against underflow; it passes losses through otherwise.

    Args:
        device: where the gradients are.
        dtype: what the forward pass runs in.

    Raises:
        ValueError: float16 on CPU with a torch that cannot scale there.
    """
    device_type = torch.device(device).type
    enabled = dtype == torch.float16
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device_type, enabled=enabled)
    if device_type != "cuda" and enabled:
        raise ValueError(
            f"SOLVER.AMP.DTYPE float16 needs torch 2.3 or newer on {device_type}, this is "
            f"{torch.__version__}: use bfloat16."
        )
    return torch.cuda.amp.GradScaler(enabled=enabled)
