"""CLIP and what reads its features, nested as in checkpoints of the CAT-Seg and SED releases."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from escnet_d2.modeling.clip.text import (
    Entries,
    TextEmbeddingCache,
    Tokenizer,
    embed_entries,
    remembered_entries,
)


class ReleaseHead(nn.Module):
    """Holds ``predictor.clip_model`` and ``predictor.transformer``.

    Attributes:
        templates: sentences; each makes a text embedding of its own (P).
    """

    def __init__(
        self,
        *,
        clip_model: nn.Module,
        transformer: nn.Module,
        tokenizer: Tokenizer,
        templates: Sequence[str],
        text_batch_size: int,
    ) -> None:
        """Composes the head.

        Args:
            clip_model: an open_clip model.
            transformer: makes class logits of CLIP's features.
            tokenizer: of the CLIP model.
            templates: sentences with one ``{}``.
            text_batch_size: sentences per forward pass.

        Raises:
            ValueError: a batch size below 1.
        """
        super().__init__()
        if text_batch_size < 1:
            raise ValueError(
                f"MODEL.CLIP.TEXT_BATCH_SIZE must be 1 or more, got {text_batch_size}."
            )
        self.predictor = _Predictor(clip_model, transformer)
        self.templates = tuple(templates)
        self._tokenizer = tokenizer
        self._text_batch_size = text_batch_size
        self._cache = TextEmbeddingCache()

    def encode_text(self, entries: Entries) -> Tensor:
        """Unit text embeddings (K, P, D) of vocabulary entries.

        They are remembered while no gradient is wanted: in testing, and in training with a frozen
        text tower.
        """
        model = self.predictor.clip_model
        frozen = not any(
            parameter.requires_grad
            for name, parameter in model.named_parameters()
            if not name.startswith("visual.")
        )
        options = {"average_templates": False, "batch_size": self._text_batch_size}
        if self.training and not frozen:
            return embed_entries(model, self._tokenizer, entries, self.templates, **options)
        return remembered_entries(
            self._cache, model, self._tokenizer, entries, self.templates, **options
        )

    def train(self, mode: bool = True) -> ReleaseHead:
        """Switches mode; what was remembered in testing does not survive a change to training."""
        if mode and not self.training:
            self._cache.clear()
        return super().train(mode)


class _Predictor(nn.Module):
    def __init__(self, clip_model: nn.Module, transformer: nn.Module) -> None:
        super().__init__()
        self.clip_model = clip_model
        self.transformer = transformer
