"""How a model is tested: TEST.* and MODEL.CLIP.ASPECT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import Tensor

from escnet_d2.layers import MAX_SIDE
from escnet_d2.modeling.sliding_window import sliding_window_scores

ASPECTS = ("squash", "keep")


@dataclass(frozen=True)
class InferenceOptions:
    """Options of inference; see the configuration keys of the same names.

    Attributes:
        aspect: MODEL.CLIP.ASPECT.
        sliding_window: TEST.SLIDING_WINDOW.
        window_image_size: TEST.WINDOW_IMAGE_SIZE, (height, width) or (0, 0).
        window_size: TEST.WINDOW_SIZE in pixels, 0 for the resolution of CLIP.
        overlap: TEST.WINDOW_OVERLAP.
        global_view: TEST.WINDOW_GLOBAL_VIEW.
        window_batch_size: TEST.WINDOW_BATCH_SIZE.
        label_map_only: TEST.LABEL_MAP_ONLY.
    """

    aspect: str = "squash"
    sliding_window: bool = False
    window_image_size: tuple[int, int] = (0, 0)
    window_size: int = 0
    overlap: float = 1 / 3
    global_view: bool = True
    window_batch_size: int = 8
    label_map_only: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> InferenceOptions:
        """Reads the keys."""
        return cls(
            aspect=cfg.MODEL.CLIP.ASPECT,
            sliding_window=cfg.TEST.SLIDING_WINDOW,
            window_image_size=tuple(cfg.TEST.WINDOW_IMAGE_SIZE),
            window_size=cfg.TEST.WINDOW_SIZE,
            overlap=cfg.TEST.WINDOW_OVERLAP,
            global_view=cfg.TEST.WINDOW_GLOBAL_VIEW,
            window_batch_size=cfg.TEST.WINDOW_BATCH_SIZE,
            label_map_only=cfg.TEST.LABEL_MAP_ONLY,
        )

    def check(self, patch: int) -> None:
        """Refuses values out of range for a model with patches of this side (ValueError)."""
        if self.aspect not in ASPECTS:
            raise ValueError(
                f"MODEL.CLIP.ASPECT must be one of {', '.join(ASPECTS)}, got {self.aspect!r}."
            )
        if self.window_size < 0 or self.window_size % patch:
            raise ValueError(
                f"TEST.WINDOW_SIZE must be 0 or a multiple of the patch size {patch}, "
                f"got {self.window_size}."
            )
        if self.window_size > MAX_SIDE * patch:
            raise ValueError(
                f"TEST.WINDOW_SIZE must be at most {MAX_SIDE} patches of {patch}, "
                f"got {self.window_size}."
            )
        if not 0.0 <= self.overlap < 1.0:
            raise ValueError(f"TEST.WINDOW_OVERLAP must be in [0, 1), got {self.overlap}.")
        if self.window_batch_size < 1:
            raise ValueError(
                f"TEST.WINDOW_BATCH_SIZE must be 1 or more, got {self.window_batch_size}."
            )
        size = self.window_image_size
        if len(size) != 2 or min(size) < 0 or (min(size) == 0 and max(size) > 0):
            raise ValueError(
                f"TEST.WINDOW_IMAGE_SIZE must be (height, width) or (0, 0), got {size}."
            )

    def input_size(self, size: tuple[int, int], resolution: int, patch: int) -> tuple[int, int]:
        """Size at which CLIP sees a whole image.

        Args:
            size: (height, width) of the image.
            resolution: side of the square, in pixels.
            patch: side of a patch, in pixels.

        Returns:
            The square, or under "keep" a size of about its area and the image's aspect, in whole
            patches, at least one and at most MAX_SIDE on a side.
        """
        if self.aspect == "squash":
            return (resolution, resolution)
        side = resolution // patch
        height, width = size
        rows = min(max(1, round(side * (height / width) ** 0.5)), MAX_SIDE)
        columns = min(max(1, round(side * (width / height) ** 0.5)), MAX_SIDE)
        return (rows * patch, columns * patch)

    def slide(
        self, image: Tensor, predict: Callable[[Tensor], Tensor], *, window: int, patch: int
    ) -> Tensor:
        """Runs :func:`sliding_window_scores` with these options."""
        return sliding_window_scores(
            image,
            predict,
            window=window,
            patch=patch,
            overlap=self.overlap,
            batch_size=self.window_batch_size,
        )
