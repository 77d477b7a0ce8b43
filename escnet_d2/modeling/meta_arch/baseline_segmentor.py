"""The common part of CAT-Seg and SED: keys, sizes, vocabularies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from escnet_d2.config import check_at_least, chunk_size, synonym_mode
from escnet_d2.layers.class_transformer import ClassTransformer
from escnet_d2.layers.swin_pair import SwinPair
from escnet_d2.modeling.class_scores import class_scores, label_map, merge_entries, resize_scores
from escnet_d2.modeling.clip import TextEncoder, prompt_templates
from escnet_d2.modeling.clip.build import baseline_embed_dim
from escnet_d2.modeling.clip.text import Entries, Tokenizer
from escnet_d2.modeling.criterion import renumber_target, sem_seg_loss
from escnet_d2.modeling.windows import feature_grid
from escnet_d2.structures import Vocabulary

from .segmentor import OpenVocabSegmentor


class BaselineHead(nn.Module):
    """CLIP and what reads its features, nested as in checkpoints of the releases."""

    @configurable
    def __init__(self, *, clip_model: nn.Module, transformer: nn.Module, text: TextEncoder) -> None:
        """Composes the head.

        Args:
            clip_model: an open_clip model.
            transformer: makes class logits of its features.
            text: embeds class names with it, once for each of P sentences.
        """
        super().__init__()
        self.predictor = nn.Module()
        self.predictor.clip_model = clip_model
        self.predictor.transformer = transformer
        self.text = text

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        *,
        clip_model: nn.Module,
        tokenizer: Tokenizer,
        build_transformer: Callable[[CfgNode, int], nn.Module],
    ) -> dict[str, object]:
        """Builds the parts, with the sentences of MODEL.PROMPT_ENSEMBLE_TYPE.

        Args:
            cfg: the configuration.
            clip_model: an open_clip model.
            tokenizer: of the CLIP model.
            build_transformer: makes what makes logits, of the configuration and P.
        """
        key = "MODEL.PROMPT_ENSEMBLE_TYPE"
        templates = prompt_templates(cfg.MODEL.PROMPT_ENSEMBLE_TYPE, key=key)
        return {
            "clip_model": clip_model,
            "transformer": build_transformer(cfg, len(templates)),
            "text": TextEncoder(
                clip_model,
                tokenizer,
                templates,
                average_templates=False,
                batch_size=cfg.MODEL.CLIP.TEXT_BATCH_SIZE,
                gradient_checkpointing=cfg.MODEL.CLIP.GRADIENT_CHECKPOINTING,
            ),
        }

    def encode_text(self, entries: Entries) -> Tensor:
        """Embeds vocabulary entries: unit vectors, (K, P, D)."""
        return self.text.encode(entries)


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
        gradient_checkpointing: bool = False,
        num_train_classes: int = 0,
        train_vocabulary: Vocabulary | None = None,
        **options: object,
    ) -> None:
        """Composes the model.

        Args:
            sem_seg_head: CLIP with what makes logits of its features.
            gradient_checkpointing: MODEL.CLIP.GRADIENT_CHECKPOINTING.
            num_train_classes: MODEL.SEM_SEG_HEAD.TRAIN_CLASSES.
            train_vocabulary: default vocabulary in training.
            options: of :class:`OpenVocabSegmentor`.
        """
        super().__init__(**options)
        self.sem_seg_head = sem_seg_head
        self.gradient_checkpointing = gradient_checkpointing
        check_at_least("MODEL.SEM_SEG_HEAD.TRAIN_CLASSES", num_train_classes, 0)
        self.num_train_classes = num_train_classes
        self.train_vocabulary = train_vocabulary

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Reads the arguments that both baselines have, but for head and views.

        Raises:
            ValueError: a value that is not supported; names the key.
        """
        head = cfg.MODEL.SEM_SEG_HEAD
        if head.PROMPT_DEPTH or head.PROMPT_LENGTH:
            raise ValueError(
                "MODEL.SEM_SEG_HEAD.PROMPT_DEPTH and PROMPT_LENGTH must be 0: prompt tokens are "
                f"not supported, got {head.PROMPT_DEPTH} and {head.PROMPT_LENGTH}."
            )
        if head.IGNORE_VALUE != 255:
            raise ValueError(
                "MODEL.SEM_SEG_HEAD.IGNORE_VALUE must be 255: the metadata of a data set say which "
                f"label is unlabeled, got {head.IGNORE_VALUE}."
            )
        return {
            **super().from_config(cfg),
            "finetune": head.CLIP_FINETUNE,
            "pixel_mean": torch.tensor(cfg.MODEL.CLIP_PIXEL_MEAN),
            "pixel_std": torch.tensor(cfg.MODEL.CLIP_PIXEL_STD),
            "gradient_checkpointing": cfg.MODEL.CLIP.GRADIENT_CHECKPOINTING,
            "num_train_classes": head.TRAIN_CLASSES,
            "vocabulary": _vocabulary(cfg, head.TEST_CLASS_JSON),
            "train_vocabulary": _vocabulary(cfg, head.TRAIN_CLASS_JSON),
        }

    def encode_text(self, entries: Entries) -> Tensor:
        """Embeds vocabulary entries: unit vectors, (K, P, D)."""
        return self.sem_seg_head.encode_text(entries)

    def score_views(self, views: Tensor, text: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Scores what :meth:`predict` has logits of, (B, classes, h', w')."""
        return class_scores(self.predict(views, text), vocabulary, "bce")

    @abstractmethod
    def predict(self, images: Tensor, text_embeddings: Tensor) -> Tensor:
        """Predicts logits of normalized images of CLIP's resolution, (B, K, h', w')."""

    def _train_classes(
        self, vocabulary: Vocabulary, targets: list[Tensor]
    ) -> tuple[Vocabulary, list[Tensor]]:
        """Draws the classes that one step looks at, and numbers the labels as they are.

        Those of the images, and any others up to MODEL.SEM_SEG_HEAD.TRAIN_CLASSES.
        """
        number = vocabulary.num_classes
        if not 0 < self.num_train_classes < number:
            return vocabulary, targets
        present = torch.zeros(number, dtype=torch.bool, device=targets[0].device)
        for target in targets:
            present[target[(target >= 0) & (target < number)].unique()] = True
        priority = torch.rand(number, device=present.device) + present
        keep = max(self.num_train_classes, int(present.sum()))
        classes = priority.topk(keep).indices.sort().values
        targets = [renumber_target(target, classes, number) for target in targets]
        return vocabulary.subset(classes.tolist()), targets

    def _default_vocabulary(self) -> Vocabulary | None:
        if self.training and self.train_vocabulary is not None:
            return self.train_vocabulary
        return self.vocabulary

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
    """Averages over the images the binary cross-entropy at the size of the labels.

    Unlabeled pixels count as negatives of every class, as in the releases.

    Args:
        logits: of entries, (B, K, h, w).
        targets: int64 (H, W) each.
        vocabulary: says which entries belong to which class.
    """
    losses = []
    for logit, target in zip(merge_entries(logits, vocabulary), targets):
        resized = resize_scores(logit.float(), target.shape).unsqueeze(0)
        losses.append(sem_seg_loss(resized, target.unsqueeze(0)))
    return torch.stack(losses).mean()


def decoder_options(
    cfg: CfgNode, *, guidance: Sequence[str], attended: Sequence[int]
) -> dict[str, object]:
    """Reads the arguments that ``CostAggregator`` and ``GradualDecoder`` have in common.

    Args:
        cfg: the configuration.
        guidance: keys of the widths that read CLIP's embeddings, or 0 where nothing does.
        attended: widths that the attentions split into heads.

    Raises:
        ValueError: a width that fits neither CLIP nor the others; names the keys.
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
    return {
        "text_dim": head.TEXT_GUIDANCE_DIM,
        "decoder_dims": head.DECODER_DIMS,
        "skip_dims": head.DECODER_GUIDANCE_DIMS,
        "skip_guidance_dims": head.DECODER_GUIDANCE_PROJ_DIMS,
        "hidden_dim": head.HIDDEN_DIMS,
        "make_swin_pair": partial(
            SwinPair, num_heads=head.NUM_HEADS, window_size=head.WINDOW_SIZES
        ),
        "make_attention": partial(
            ClassTransformer,
            num_heads=head.NUM_HEADS,
            pooling=head.POOLING_SIZES,
            test_pooling=cfg.TEST.POOLING_SIZES,
            attention_type=head.ATTENTION_TYPE,
        ),
        "grid": feature_grid(cfg),
        "class_chunk_size": chunk_size(
            "TEST.CLASS_CHUNK_SIZE", cfg.TEST.CLASS_CHUNK_SIZE, cfg.MODEL.DEVICE
        ),
    }


def _vocabulary(cfg: CfgNode, file: str) -> Vocabulary | None:
    """Reads a class list, on which images without a vocabulary fall back as in the releases.

    A file that does not exist is left out: the data loaders, which give each image its vocabulary,
    find the lists that come with the package.
    """
    if not file or not Path(file).expanduser().is_file():
        return None
    return Vocabulary.from_file(file, synonyms=synonym_mode(cfg))
