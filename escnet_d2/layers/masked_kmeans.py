"""k-means over the positions of the foreground pixels of many maps at once.

The operator ``torch.ops.escnet_d2.masked_kmeans``: compiled kernels where the extension was built
(``csrc/``), else plain torch (``kmeans_reference.py``). Results are equal bit by bit.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from .extension import ExtensionError, load_extension
from .kmeans_reference import check_arguments, kmeans_reference

_SCHEMA = (
    "masked_kmeans(Tensor scores, Tensor mask, int k=5, int max_iter=10) -> "
    "(Tensor labels, Tensor centers, Tensor counts, Tensor points)"
)


class Clusters(NamedTuple):
    """Result of :func:`masked_kmeans`; ``...`` are the leading dimensions of its input.

    Attributes:
        labels: int8 (..., H, W), cluster of each pixel, -1 on the background.
        centers: float32 (..., k, 2), (x, y) in pixels; (0, 0) for clusters that never had a pixel.
        counts: int32 (..., k), pixels per cluster; a cluster is valid when its count is above 0.
        points: int32 (..., k), flat index of the best-scoring pixel of each cluster, -1 if invalid.
    """

    labels: Tensor
    centers: Tensor
    counts: Tensor
    points: Tensor


def masked_kmeans(scores: Tensor, mask: Tensor, k: int = 5, max_iter: int = 10) -> Clusters:
    """Clusters the positions of the foreground pixels of each map; deterministic.

    Lloyd's algorithm on pixel positions (ESC-Net section 3.2 asks for k-means; seeding and ties are
    ours). The first center is the best-scoring pixel, the others follow farthest-first (maximin,
    Gonzalez 1985); iterations run until no center moves. Ties go to the lowest index. NaN scores
    rank lowest. With fewer foreground pixels than k each is a cluster of its own and the rest are
    invalid; a cluster that loses all its pixels keeps its center. Centers are rounded to 1/64 of a
    pixel (1/32 from 33 pixels along a side on, 1/16 from 65 on).

    No gradient. Autocast leaves the scores as they are. Under ``torch.vmap`` the mapped dimension
    becomes one more leading dimension.

    Args:
        scores: (..., H, W) float32, float16 or bfloat16, any strides; one problem per leading
            index.
        mask: (..., H, W) bool, the foreground.
        k: clusters, 1 to 8.
        max_iter: Lloyd iterations at most, 0 or more.

    Returns:
        See :class:`Clusters`.

    Raises:
        ValueError: shapes, types, devices or ranges other than these.
    """
    check_arguments(scores, mask, k, max_iter)
    with torch.no_grad():
        return Clusters(*torch.ops.escnet_d2.masked_kmeans(scores, mask, k, max_iter))


def _shapes(scores: Tensor, mask: Tensor, k: int = 5, max_iter: int = 10) -> tuple[Tensor, ...]:
    """Makes empty results, for tracing."""
    check_arguments(scores, mask, k, max_iter)
    leading = scores.shape[:-2]
    return (
        scores.new_empty(scores.shape, dtype=torch.int8),
        scores.new_empty((*leading, k, 2), dtype=torch.float32),
        scores.new_empty((*leading, k), dtype=torch.int32),
        scores.new_empty((*leading, k), dtype=torch.int32),
    )


def _batched(
    info: object,
    in_dims: tuple[int | None, ...],
    scores: Tensor,
    mask: Tensor,
    *numbers: int,
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Puts the mapped dimension first; the operator takes any number of leading ones."""
    scores, mask = (
        x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip((scores, mask), in_dims)
    )
    return torch.ops.escnet_d2.masked_kmeans(scores, mask, *numbers), (0, 0, 0, 0)


def _without_gradient(*arguments: object) -> tuple[Tensor, ...]:
    with torch._C._AutoDispatchBelowADInplaceOrView():
        return torch.ops.escnet_d2.masked_kmeans(*arguments)


def _in_torch(
    scores: Tensor, mask: Tensor, k: int = 5, max_iter: int = 10
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes without a kernel, and says so once where a GPU waits for it."""
    if scores.is_cuda:
        # Python shows a warning of one line of code once.
        warnings.warn(
            "masked_kmeans runs as torch code on the GPU, which waits for it at each iteration: "
            "build the CUDA kernel (INSTALL.md).",
            stacklevel=2,
        )
    return kmeans_reference(scores, mask, k, max_iter)


def _register() -> torch.library.Library:
    """Completes the operator: what the extension registers is left alone."""
    library = torch.library.Library("escnet_d2", "FRAGMENT")
    try:
        extension = load_extension()
    except ExtensionError as error:
        warnings.warn(f"torch code replaces the compiled k-means: {error}", stacklevel=2)
        extension = None
    if extension is None:
        library.define(_SCHEMA)
        library.impl("masked_kmeans", _without_gradient, "Autograd")
    # Every device for which the extension has no kernel.
    library.impl("masked_kmeans", _in_torch, "CompositeExplicitAutograd")
    name = "escnet_d2::masked_kmeans"
    if hasattr(torch.library, "register_fake"):
        torch.library.register_fake(name, _shapes, lib=library)
    else:  # torch < 2.4
        torch.library.impl_abstract(name, _shapes, lib=library)
    if hasattr(torch.library, "register_vmap"):  # torch >= 2.5
        torch.library.register_vmap(name, _batched, lib=library)
    return library


# Registrations last as long as this.
_library = _register()
