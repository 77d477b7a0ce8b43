"""A look into ESC-Net while it segments an image."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from escnet_d2.modeling import ESCNet
from escnet_d2.structures import Vocabulary
from escnet_d2.structures.inspection import BlockInspection, PromptInspection

from .predictor import ImageInput, OpenVocabPredictor, image_pixels

logger = logging.getLogger(__name__)


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
