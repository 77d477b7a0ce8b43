"""A look into ESC-Net while it segments an image, as a picture (figures 3 and 6 of the paper)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from escnet_d2.engine import OpenVocabPredictor
from escnet_d2.engine.predictor import ImageInput, image_pixels
from escnet_d2.modeling import ESCNet
from escnet_d2.outputs.palette import class_colors
from escnet_d2.structures import Vocabulary

_CELL_INCHES = 1.7
_DPI = 100
_COLUMNS = ("class map", "probability, points", "regions", "pseudo mask")
_OPACITY = 0.55

logger = logging.getLogger("escnet_d2.inspect_prompts")


@dataclass(frozen=True)
class BlockInspection:
    """Pseudo prompts of one ESC-Block for n classes, on the H x W patches.

    Attributes:
        class_map: class logits that the prompts came from, float32 (n, H, W); of the first block
            CLIP's own correlation times its temperature.
        probability: float32 (n, H, W), in [0, 1].
        regions: int8 (n, H, W), cluster of each patch, -1 on the background.
        points: float32 (n, N, 2), (x, y) in patches.
        point_labels: int64 (n, N), 1 a point, -1 none.
        masks: float32 (n, H, W), the pseudo masks of all regions.
    """

    class_map: np.ndarray
    probability: np.ndarray
    regions: np.ndarray
    points: np.ndarray
    point_labels: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class PromptInspection:
    """All blocks of one image.

    Attributes:
        image: uint8 (h, w, 3), RGB.
        labels: the segmentation, int (h, w), index into the whole vocabulary.
        vocabulary_names: names of all classes.
        class_names: names of the n classes that the blocks show.
        blocks: in order.
    """

    image: np.ndarray
    labels: np.ndarray
    vocabulary_names: tuple[str, ...]
    class_names: tuple[str, ...]
    blocks: tuple[BlockInspection, ...]


def inspect_image(
    predictor: OpenVocabPredictor,
    image: ImageInput,
    vocabulary: Vocabulary,
    *,
    classes: Sequence[str] | None = None,
    max_classes: int = 4,
) -> PromptInspection:
    """Segments an image as a whole and keeps what each ESC-Block was prompted with.

    Args:
        predictor: of an ESC-Net with SAM blocks.
        image: as for the predictor.
        vocabulary: what the image is segmented into.
        classes: names of the classes to keep, by default the largest ones in the result.
        max_classes: how many of these.

    Returns:
        Maps of these classes but for those that the head pruned in this image, which are logged.

    Raises:
        ValueError: another model, no SAM blocks, or a class that the vocabulary lacks.
    """
    model = predictor.model
    if not isinstance(model, ESCNet):
        raise ValueError(
            f"Only ESCNet has pseudo prompts, MODEL.META_ARCHITECTURE is {type(model).__name__}."
        )
    pixels = image_pixels(image)
    segmentation = predictor(pixels, vocabulary)
    with torch.inference_mode():
        output = model.inspect(predictor.model_input(pixels, vocabulary))
    if output.prompts[0] is None:
        raise ValueError("MODEL.ESCNET.USE_SAM is False: this model makes no pseudo prompts.")
    areas = segmentation.class_areas()
    chosen = _chosen_classes(vocabulary, areas, classes, max_classes)
    # One map per class: its first entry that was computed.
    computed = [vocabulary.entry_classes[entry] for entry in output.entries[0].tolist()]
    pruned = [segmentation.class_names[index] for index in chosen if index not in computed]
    if pruned:
        logger.warning(
            "Left out, being none of the %d likeliest entries (MODEL.ESCNET.MAX_CLASSES): %s.",
            len(computed),
            ", ".join(pruned),
        )
    chosen = [index for index in chosen if index in computed]
    rows = torch.tensor([computed.index(index) for index in chosen], dtype=torch.long)
    blocks = []
    for prompts, class_map in zip(output.prompts, output.class_maps):
        # The softmax goes over all classes, so before some are picked.
        probability = model.sem_seg_head.prompt_generator.probability(class_map)
        own = (prompts.regions, prompts.points, prompts.point_labels, prompts.masks)
        parts = (part[0].cpu()[rows].numpy() for part in (class_map, probability, *own))
        blocks.append(BlockInspection(*parts))
    return PromptInspection(
        image=pixels,
        labels=segmentation.labels,
        vocabulary_names=segmentation.class_names,
        class_names=tuple(segmentation.class_names[index] for index in chosen),
        blocks=tuple(blocks),
    )


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


def _chosen_classes(
    vocabulary: Vocabulary, areas: np.ndarray, names: Sequence[str] | None, max_classes: int
) -> list[int]:
    scored = range(max(vocabulary.entry_classes) + 1)
    if names is None:
        largest = sorted(scored, key=lambda index: -areas[index])
        return [index for index in largest if areas[index]][:max_classes]
    unknown = [name for name in names if name not in vocabulary.class_names]
    if unknown:
        raise ValueError(
            f"The vocabulary has no class {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(vocabulary.class_names)}."
        )
    return [vocabulary.class_names.index(name) for name in names]
