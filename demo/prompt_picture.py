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
from matplotlib.gridspec import SubplotSpec
from PIL import Image

from escnet_d2.engine import OpenVocabPredictor
from escnet_d2.io import ImageInput, image_pixels
from escnet_d2.modeling import ESCNet
from escnet_d2.outputs import SegmentedImage
from escnet_d2.outputs.region_names import drawable_name
from escnet_d2.structures import Vocabulary

# Of the whole picture, to fit a screen, and of the largest panels.
_WIDTH_INCHES, _HEIGHT_INCHES, _PANEL_INCHES = 15.0, 8.4, 1.7
_DPI = 100
_FONT_SIZE = 9
_COLUMNS = ("class map", "probability, points", "regions", "pseudo mask")
_CAPTION = (
    "class map: how well each patch fits the class; of block 1, CLIP's correlation. "
    "probability: relative to the likeliest class; dots are the pseudo points that prompt SAM.\n"
    "regions: clusters of the patches that are likely enough, one color each. "
    "pseudo mask: the mask prompt, probability inside the regions. Bright is high."
)
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
        segmentation: of the image, into the whole vocabulary.
        class_names: names of the n classes that the blocks show.
        blocks: in order.
    """

    image: np.ndarray
    segmentation: SegmentedImage
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
            "Left out, being none of the %d likeliest entries (MODEL.ESCNET.MAX_CLASSES, "
            "VOTES_KEPT): %s.",
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
        segmentation=segmentation,
        class_names=tuple(segmentation.class_names[index] for index in chosen),
        blocks=tuple(blocks),
    )


def draw_prompt_picture(inspection: PromptInspection) -> Image.Image:
    """Draws the image and its segmentation, and beside them a row per class with all ESC-Blocks.

    Returns:
        An RGB image, not larger than a screen.
    """
    num_rows, num_blocks = len(inspection.class_names), len(inspection.blocks)
    num_columns = num_blocks * len(_COLUMNS)
    panel = min(_PANEL_INCHES, (_WIDTH_INCHES - 4) / num_columns, (_HEIGHT_INCHES - 1.2) / num_rows)
    # At least high enough for the image above its segmentation.
    height = max(num_rows * panel + 1.2, 4.6)
    figure = Figure(figsize=(num_columns * panel + 4, height), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    whole = figure.add_gridspec(1, 2, width_ratios=(3, num_columns * panel + 0.6), wspace=0.02)
    whole.update(left=0.01, right=0.995, bottom=0.62 / height, top=1 - 0.5 / height)
    _draw_images(figure, whole[0], inspection)
    # The first column is for the names.
    ratios = [0.6] + [1] * num_columns
    grid = whole[1].subgridspec(
        num_rows, num_columns + 1, width_ratios=ratios, wspace=0.06, hspace=0.06
    )
    for row, name in enumerate(inspection.class_names):
        label = figure.add_subplot(grid[row, 0])
        label.set_axis_off()
        index = inspection.segmentation.class_names.index(name)
        words = drawable_name(name, index).split(" ")
        label.text(1, 0.5, "\n".join(words), ha="right", va="center", fontsize=_FONT_SIZE)
        for number, block in enumerate(inspection.blocks):
            first = 1 + number * len(_COLUMNS)
            axes = [figure.add_subplot(grid[row, first + column]) for column in range(4)]
            _draw_row(np.array(axes), inspection.image, block, row)
            for axis, title in zip(axes, _COLUMNS):
                axis.set_axis_off()
                if row == 0:
                    axis.set_title(f"block {number + 1}\n{title}", fontsize=_FONT_SIZE - 1)
    figure.text(0.01, 0.08 / height, _CAPTION, fontsize=_FONT_SIZE, va="bottom", linespacing=1.4)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _draw_images(figure: Figure, place: SubplotSpec, inspection: PromptInspection) -> None:
    pictures = {
        "image": inspection.image,
        "segmentation": inspection.segmentation.overlay(with_legend=False),
    }
    for cell, (title, picture) in zip(place.subgridspec(2, 1, hspace=0.12), pictures.items()):
        axis = figure.add_subplot(cell)
        axis.set_axis_off()
        axis.imshow(picture)
        axis.set_title(title, fontsize=_FONT_SIZE)


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
