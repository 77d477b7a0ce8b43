"""The sliding window of CAT-Seg's release: the keys that begin with WINDOW in TEST."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode


@dataclass(frozen=True)
class WindowOptions:
    """Options of :func:`escnet_d2.modeling.squashed_window.squashed_window_scores`.

    Attributes:
        enabled: TEST.SLIDING_WINDOW.
        image_size: TEST.WINDOW_IMAGE_SIZE, (height, width).
        size: TEST.WINDOW_SIZE, side of a window in pixels of the squashed image.
        overlap: TEST.WINDOW_OVERLAP.
        global_view: TEST.WINDOW_GLOBAL_VIEW.
        batch_size: TEST.WINDOW_BATCH_SIZE.
    """

    enabled: bool
    image_size: tuple[int, int]
    size: int
    overlap: float
    global_view: bool
    batch_size: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.overlap < 1.0:
            raise ValueError(f"TEST.WINDOW_OVERLAP must be in [0, 1), got {self.overlap}.")
        if self.batch_size < 1:
            raise ValueError(f"TEST.WINDOW_BATCH_SIZE must be 1 or more, got {self.batch_size}.")
        if len(self.image_size) != 2 or not 0 < self.size <= min(self.image_size):
            raise ValueError(
                "TEST.WINDOW_SIZE must fit into TEST.WINDOW_IMAGE_SIZE, "
                f"got {self.size} and {self.image_size}."
            )

    @classmethod
    def from_config(
        cls, cfg: CfgNode, *, default_window: int, default_image_size: tuple[int, int]
    ) -> WindowOptions:
        """Reads the keys.

        Args:
            cfg: the configuration.
            default_window: what a TEST.WINDOW_SIZE of 0 stands for.
            default_image_size: what a TEST.WINDOW_IMAGE_SIZE of (0, 0) stands for.

        Raises:
            ValueError: a value out of range; names the key.
        """
        image_size = tuple(cfg.TEST.WINDOW_IMAGE_SIZE)
        return cls(
            enabled=cfg.TEST.SLIDING_WINDOW,
            image_size=image_size if any(image_size) else default_image_size,
            size=cfg.TEST.WINDOW_SIZE or default_window,
            overlap=cfg.TEST.WINDOW_OVERLAP,
            global_view=cfg.TEST.WINDOW_GLOBAL_VIEW,
            batch_size=cfg.TEST.WINDOW_BATCH_SIZE,
        )
