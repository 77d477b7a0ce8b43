"""CLIP and what reads its features, nested as in checkpoints of the CAT-Seg and SED releases."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from escnet_d2.modeling.clip import TextEncoder, prompt_templates
from escnet_d2.modeling.clip.text import Entries, Tokenizer


class BaselineHead(nn.Module):
    """Holds ``predictor.clip_model`` and ``predictor.transformer``."""

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
