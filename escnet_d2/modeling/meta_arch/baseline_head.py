"""CLIP and what reads its features, nested as in checkpoints of the CAT-Seg and SED releases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from torch import Tensor, nn

from escnet_d2.modeling.clip import TextEncoder, prompt_templates
from escnet_d2.modeling.clip.text import Entries, Tokenizer


class BaselineHead(nn.Module):
    """Holds ``predictor.clip_model`` and ``predictor.transformer``.

    Attributes:
        text: embeds class names with ``predictor.clip_model``, once for each of P sentences.
    """

    def __init__(
        self,
        *,
        clip_model: nn.Module,
        transformer: nn.Module,
        tokenizer: Tokenizer,
        templates: Sequence[str],
        text_batch_size: int,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Composes the head.

        Args:
            clip_model: an open_clip model.
            transformer: makes class logits of CLIP's features.
            tokenizer: of the CLIP model.
            templates: sentences with one ``{}``.
            text_batch_size: sentences per forward pass.
            gradient_checkpointing: recompute the text tower in the backward pass.

        Raises:
            ValueError: a batch size below 1.
        """
        super().__init__()
        self.predictor = _Predictor(clip_model, transformer)
        self.text = TextEncoder(
            clip_model,
            tokenizer,
            templates,
            average_templates=False,
            batch_size=text_batch_size,
            gradient_checkpointing=gradient_checkpointing,
        )

    def encode_text(self, entries: Entries) -> Tensor:
        """Unit text embeddings (K, P, D) of vocabulary entries."""
        return self.text.encode(entries)

    def train(self, mode: bool = True) -> BaselineHead:
        """Switches mode; what was remembered in testing does not survive a change to training."""
        if mode and not self.training:
            self.text.forget()
        return super().train(mode)


def build_baseline_head(
    cfg: CfgNode,
    *,
    clip_model: nn.Module,
    tokenizer: Tokenizer,
    build_transformer: Callable[[CfgNode, int], nn.Module],
) -> BaselineHead:
    """Builds the head with the sentences of MODEL.PROMPT_ENSEMBLE_TYPE.

    Args:
        cfg: the configuration.
        clip_model: an open_clip model.
        tokenizer: of the CLIP model.
        build_transformer: makes what makes logits, of the configuration and P.

    Raises:
        ValueError: a value that is not supported; names the key.
    """
    templates = prompt_templates(cfg.MODEL.PROMPT_ENSEMBLE_TYPE, key="MODEL.PROMPT_ENSEMBLE_TYPE")
    return BaselineHead(
        clip_model=clip_model,
        transformer=build_transformer(cfg, len(templates)),
        tokenizer=tokenizer,
        templates=templates,
        text_batch_size=cfg.MODEL.CLIP.TEXT_BATCH_SIZE,
        gradient_checkpointing=cfg.MODEL.CLIP.GRADIENT_CHECKPOINTING,
    )


class _Predictor(nn.Module):
    def __init__(self, clip_model: nn.Module, transformer: nn.Module) -> None:
        super().__init__()
        self.clip_model = clip_model
        self.transformer = transformer
