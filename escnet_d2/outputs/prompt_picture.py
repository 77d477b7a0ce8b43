"""A picture of ESC-Net's pseudo prompts (figures 3 and 6 of the paper)."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from escnet_d2.structures.inspection import BlockInspection, PromptInspection

from .palette import class_colors

_CELL_INCHES = 1.7
_DPI = 100
_COLUMNS = ("class map", "probability, points", "regions", "pseudo mask")
_OPACITY = 0.55


def draw_prompt_picture(inspection: PromptInspection) -> Image.Image:
    """Draws the image and its segmentation, then a row for each class and ESC-Block.

    Returns:
        An RGB image.
    """
    rows = len(inspection.class_names) * len(inspection.blocks)
    figure = Figure(figsize=(_CELL_INCHES * 5.4, _CELL_INCHES * 1.12 * (rows + 1)), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows + 1, len(_COLUMNS), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].imshow(inspection.image)
    axes[0, 0].set_title("image", fontsize=8)
    colors = class_colors(len(inspection.vocabulary_names))
    axes[0, 1].imshow(colors[inspection.labels])
    axes[0, 1].set_title("segmentation", fontsize=8)
    row = 1
    for index, name in enumerate(inspection.class_names):
        for number, block in enumerate(inspection.blocks, start=1):
            _draw_row(axes[row], inspection.image, block, index)
            axes[row, 0].text(
                -0.06,
                0.5,
                f"{name}\nblock {number}",
                transform=axes[row, 0].transAxes,
                ha="right",
                va="center",
                fontsize=8,
            )
            if row == 1:
                for axis, title in zip(axes[row], _COLUMNS):
                    axis.set_title(title, fontsize=8)
            row += 1
    figure.subplots_adjust(left=0.24, right=0.99, top=0.97, bottom=0.01, hspace=0.12, wspace=0.05)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _draw_row(axes: np.ndarray, image: np.ndarray, block: BlockInspection, index: int) -> None:
    grid = block.class_map.shape[1:]
    # Patch (x, y) covers [x - 0.5, x + 0.5]: all layers share the patches' coordinates.
    extent = (-0.5, grid[1] - 0.5, grid[0] - 0.5, -0.5)
    axes[0].imshow(block.class_map[index], extent=extent, cmap="viridis")
    axes[1].imshow(block.probability[index], extent=extent, cmap="magma", vmin=0, vmax=1)
    _draw_points(axes[1], block, index)
    axes[2].imshow(image, extent=extent, aspect="auto")
    regions = block.regions[index]
    axes[2].imshow(
        np.ma.masked_less(regions, 0),
        extent=extent,
        cmap="tab10",
        vmin=0,
        vmax=9,
        alpha=_OPACITY,
        interpolation="nearest",
    )
    axes[3].imshow(image, extent=extent, aspect="auto")
    axes[3].imshow(block.masks[index], extent=extent, cmap="magma", vmin=0, vmax=1, alpha=_OPACITY)
    for axis in axes:
        axis.set_aspect("equal")
        axis.set_xlim(extent[:2])
        axis.set_ylim(extent[2:])


def _draw_points(axis: Axes, block: BlockInspection, index: int) -> None:
    points = block.points[index][block.point_labels[index] == 1]
    axis.scatter(points[:, 0], points[:, 1], s=16, c="white", edgecolors="black", linewidths=0.8)
