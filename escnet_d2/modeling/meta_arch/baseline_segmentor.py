"""What CAT-Seg and SED share beyond every meta-architecture: keys, sizes, vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.modeling.class_scores import label_map, merge_entries, resize_scores
from escnet_d2.modeling.clip.baseline_clip import baseline_embed_dim
from escnet_d2.modeling.criterion import sem_seg_loss
from escnet_d2.structures import Vocabulary

from .baseline_head import BaselineHead
from .segmentor import OpenVocabSegmentor, check_input_format


class BaselineSegmentor(OpenVocabSegmentor):
    """Squashes images to CLIP's resolution as the releases do, and scores vocabulary entries.

    Attributes:
        train_vocabulary: in training, what images without a ``"vocabulary"`` are trained on;
            ``vocabulary`` where there is none.
    """

    def __init__(
        self,
        *,
        sem_seg_head: BaselineHead,
        resolution: tuple[int, int],
        size_divisibility: int,
        pixel_mean: Tensor,
        pixel_std: Tensor,
        label_map_only: bool = False,
        crop_score_map: bool = False,
        gradient_checkpointing: bool = False,
        vocabulary: Vocabulary | None = None,
        train_vocabulary: Vocabulary | None = None,
    ) -> None:
        """Composes the model.

        Args:
            sem_seg_head: CLIP and what makes logits of its features.
            resolution: (height, width) that CLIP sees.
            size_divisibility: images are padded to a multiple of this before they are squashed; 1
                or less does not.
            pixel_mean: of R, G and B on the scale 0 to 255.
            pixel_std: likewise.
            label_map_only: TEST.LABEL_MAP_ONLY.
            crop_score_map: TEST.CROP_SCORE_MAP.
            gradient_checkpointing: MODEL.CLIP.GRADIENT_CHECKPOINTING.
            vocabulary: default vocabulary.
            train_vocabulary: default vocabulary in training.
        """
        super().__init__(
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            label_map_only=label_map_only,
            vocabulary=vocabulary,
        )
        self.sem_seg_head = sem_seg_head
        self.resolution = resolution
        self.size_divisibility = size_divisibility
        self.crop_score_map = crop_score_map
        self.gradient_checkpointing = gradient_checkpointing
        self.train_vocabulary = train_vocabulary

    def _default_vocabulary(self) -> Vocabulary | None:
        if self.training and self.train_vocabulary is not None:
            return self.train_vocabulary
        return self.vocabulary

    def _squash(self, images: list[Tensor], divisibility: int) -> Tensor:
        """Pads each image to whole multiples and resizes it, without antialiasing: (B, 3, h, w)."""
        squashed = []
        for image in images:
            height, width = image.shape[1:]
            step = max(divisibility, 1)
            padded = F.pad(image, (0, -width % step, 0, -height % step))
            squashed.append(
                F.interpolate(
                    padded.unsqueeze(0), size=self.resolution, mode="bilinear", align_corners=False
                )
            )
        return torch.cat(squashed)

    def _crop(self, scores: Tensor, images: list[Tensor]) -> list[Tensor]:
        """Score maps (B, K, h, w) one by one, cut to the sizes of the images if that is asked."""
        if not self.crop_score_map:
            return list(scores)
        return [
            score[:, : image.shape[1], : image.shape[2]] for score, image in zip(scores, images)
        ]

    def _result(
        self, scores: Tensor, size: tuple[int, int], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        """Resizes the scores of entries, and only then takes the best entry of each class.

        The evaluation of the releases knows entries only, which come together by their labels.
        """
        threshold = vocabulary.background_threshold
        if not self.label_map_only:
            merged = merge_entries(resize_scores(scores, size).unsqueeze(0), vocabulary)[0]
            if threshold is not None:
                merged = torch.cat([merged, torch.full_like(merged[:1], threshold)])
            return {"sem_seg": merged}
        labels, best = label_map(scores, size)
        classes = torch.tensor(vocabulary.entry_classes, dtype=torch.int32, device=labels.device)
        labels = classes[labels]
        if threshold is not None:
            is_background = best < threshold
            labels = labels.masked_fill(is_background, vocabulary.num_classes - 1)
            best = best.masked_fill(is_background, threshold)
        return {"label_map": labels, "score_map": best}


def mean_loss(logits: Tensor, targets: list[Tensor], vocabulary: Vocabulary) -> Tensor:
    """Binary cross-entropy at the size of the labels, the mean over the images.

    Unlabelled pixels count as negatives of every class, as in the releases.

    Args:
        logits: of entries, (B, K, h, w).
        targets: int64 (H, W) each.
        vocabulary: says which entries belong to which class.
    """
    losses = []
    for logit, target in zip(merge_entries(logits, vocabulary), targets):
        resized = F.interpolate(
            logit.unsqueeze(0).float(), size=target.shape, mode="bilinear", align_corners=False
        )
        losses.append(sem_seg_loss(resized, target.unsqueeze(0)))
    return torch.stack(losses).mean()


def baseline_options(cfg: CfgNode, *, stride: int) -> dict[str, object]:
    """Reads the keys that both methods share.

    Args:
        cfg: the configuration.
        stride: image pixels to a cell of CLIP's features.

    Returns:
        Arguments of :class:`BaselineSegmentor` but for the head and the vocabularies.

    Raises:
        ValueError: a value that is not supported; names the key.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    check_input_format(cfg)
    if head.PROMPT_DEPTH or head.PROMPT_LENGTH:
        raise ValueError(
            "MODEL.SEM_SEG_HEAD.PROMPT_DEPTH and PROMPT_LENGTH must be 0: prompt tokens are not "
            f"supported, got {head.PROMPT_DEPTH} and {head.PROMPT_LENGTH}."
        )
    if head.IGNORE_VALUE != 255:
        raise ValueError(
            "MODEL.SEM_SEG_HEAD.IGNORE_VALUE must be 255: the metadata of a data set say which "
            f"label is none, got {head.IGNORE_VALUE}."
        )
    if cfg.TEST.CLASS_CHUNK_SIZE < 0:
        raise ValueError(
            f"TEST.CLASS_CHUNK_SIZE must be 0 or more, got {cfg.TEST.CLASS_CHUNK_SIZE}."
        )
    grid = feature_grid(cfg)
    return {
        "resolution": (grid[0] * stride, grid[1] * stride),
        "size_divisibility": cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY,
        "pixel_mean": torch.tensor(cfg.MODEL.CLIP_PIXEL_MEAN),
        "pixel_std": torch.tensor(cfg.MODEL.CLIP_PIXEL_STD),
        "label_map_only": cfg.TEST.LABEL_MAP_ONLY,
        "crop_score_map": cfg.TEST.CROP_SCORE_MAP,
        "gradient_checkpointing": cfg.MODEL.CLIP.GRADIENT_CHECKPOINTING,
    }


def transformer_options(cfg: CfgNode) -> dict[str, object]:
    """Reads what ``CostAggregator`` and ``GradualDecoder`` have in common.

    Args:
        cfg: the configuration.

    Raises:
        ValueError: as :func:`feature_grid`.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    return {
        "text_dim": head.TEXT_GUIDANCE_DIM,
        "decoder_dims": head.DECODER_DIMS,
        "skip_dims": head.DECODER_GUIDANCE_DIMS,
        "skip_guidance_dims": head.DECODER_GUIDANCE_PROJ_DIMS,
        "num_heads": head.NUM_HEADS,
        "hidden_dim": head.HIDDEN_DIMS,
        "pooling": head.POOLING_SIZES,
        "grid": feature_grid(cfg),
        "window_size": head.WINDOW_SIZES,
        "attention_type": head.ATTENTION_TYPE,
        "class_chunk_size": cfg.TEST.CLASS_CHUNK_SIZE,
    }


def check_head_widths(cfg: CfgNode, *, guidance: Sequence[str], attended: Sequence[int]) -> None:
    """Refuses widths of the head that fit neither CLIP nor each other, by their keys.

    Args:
        cfg: the configuration.
        guidance: keys of the widths that read CLIP's embeddings, or 0 where nothing does.
        attended: widths that the attentions split into heads.

    Raises:
        ValueError: a width that does not fit; names the keys.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    embed_dim = baseline_embed_dim(head.CLIP_PRETRAINED)
    for key in guidance:
        if head[key] not in (0, embed_dim):
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.{key} must be {embed_dim}, as wide as the embeddings of "
                f"{head.CLIP_PRETRAINED}, or 0 for none; got {head[key]}."
            )
    if head.NUM_HEADS < 1 or any(width % head.NUM_HEADS for width in attended):
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.NUM_HEADS must divide what it splits, {list(attended)} of "
            f"HIDDEN_DIMS and DECODER_DIMS; got {head.NUM_HEADS}."
        )
    joined = (head.HIDDEN_DIMS, *head.DECODER_DIMS)[: len(head.DECODER_GUIDANCE_PROJ_DIMS)]
    if not all(0 <= skip < dim for skip, dim in zip(head.DECODER_GUIDANCE_PROJ_DIMS, joined)):
        raise ValueError(
            "MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_PROJ_DIMS must be narrower than what they join, "
            f"{list(joined)} of HIDDEN_DIMS and DECODER_DIMS; got "
            f"{list(head.DECODER_GUIDANCE_PROJ_DIMS)}."
        )


def feature_grid(cfg: CfgNode) -> tuple[int, int]:
    """MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION: (rows, columns); ValueError for anything else."""
    grid = tuple(cfg.MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION)
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(
            "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION must be (rows, columns) of 1 or more, "
            f"got {list(grid)}."
        )
    return grid


def baseline_vocabularies(cfg: CfgNode, *, synonyms: str) -> dict[str, Vocabulary | None]:
    """The vocabularies that the model falls back on, as the releases, which know no others.

    Images that come through the data loaders bring their own.

    Args:
        cfg: MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON and TEST_CLASS_JSON; a file that is not there is
            left out, since the loaders find the lists that come with the package.
        synonyms: what further names of a class do.

    Returns:
        The arguments ``vocabulary`` and ``train_vocabulary`` of :class:`BaselineSegmentor`.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    if cfg.VOCABULARY.SYNONYMS != "auto":
        synonyms = cfg.VOCABULARY.SYNONYMS
    found = {}
    for argument, file in (
        ("vocabulary", head.TEST_CLASS_JSON),
        ("train_vocabulary", head.TRAIN_CLASS_JSON),
    ):
        is_there = bool(file) and Path(file).expanduser().is_file()
        found[argument] = Vocabulary.from_file(file, synonyms=synonyms) if is_there else None
    return found
