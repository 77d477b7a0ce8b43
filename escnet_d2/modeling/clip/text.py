"""Text embeddings of class names, remembered for as long as the weights that made them.

Shapes: K entries of the vocabulary, P templates, C channels of the space shared with images.
"""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from open_clip import CLIP
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from escnet_d2.config import check_at_least

logger = logging.getLogger(__name__)

# Of open_clip: sentences, and the number of tokens to cut or pad them to, to tokens.
Tokenizer = Callable[..., Tensor]
Entries = Sequence[Sequence[str]]
_MAX_VOCABULARIES = 16


class TextEncoder:
    """Tokenizes class names in sentences, embeds them, and remembers what has no gradient.

    It is not a module: the model that it reads belongs to its owner.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        templates: Sequence[str],
        *,
        average_templates: bool,
        batch_size: int,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Takes the model and the options.

        Args:
            model: an open_clip model; weights of its image tower (``visual.``) do not matter.
            tokenizer: its tokenizer.
            templates: sentences with one ``{}``.
            average_templates: average over the templates, so that P = 1.
            batch_size: sentences per forward pass (MODEL.CLIP.TEXT_BATCH_SIZE).
            gradient_checkpointing: keep no activations for the backward pass, which then computes
                each part once more.

        Raises:
            ValueError: a batch size below 1.
        """
        check_at_least("MODEL.CLIP.TEXT_BATCH_SIZE", batch_size, 1)
        self.tokenizer = tokenizer
        self.templates = tuple(templates)
        self._model = model
        self._average_templates = average_templates
        self._batch_size = batch_size
        self._gradient_checkpointing = gradient_checkpointing
        self._warned_of: set[str] = set()
        self._weights_state: tuple = ()
        self._embeddings: OrderedDict[tuple, Tensor] = OrderedDict()

    @property
    def num_templates(self) -> int:
        """P: embeddings of an entry."""
        return 1 if self._average_templates else len(self.templates)

    def encode(self, entries: Entries) -> Tensor:
        """Embeds the entries of a vocabulary.

        Each sentence is embedded and normalized once; an entry with several names is the mean over
        them, template by template; the result is normalized again. It is remembered while no
        gradient is wanted: in testing, and in training with a frozen text tower.

        Args:
            entries: names of each entry.

        Returns:
            Unit vectors, (K, P, C).
        """
        entries = tuple(map(tuple, entries))
        weights = [
            w for name, w in self._model.named_parameters() if not name.startswith("visual.")
        ]
        if self._model.training and any(weight.requires_grad for weight in weights):
            self.forget()
            return self._embed(entries)
        # An optimizer step counts up the version, a new tensor has another address.
        state = tuple((w.data_ptr(), None if w.is_inference() else w._version) for w in weights)
        if state != self._weights_state:
            self.forget()
            self._weights_state = state
        if entries not in self._embeddings:
            # In full precision and good for training, so that what is remembered does not depend on
            # who asked first.
            full_precision = torch.autocast(weights[0].device.type, enabled=False)
            with torch.inference_mode(False), torch.no_grad(), full_precision:
                self._embeddings[entries] = self._embed(entries)
            if len(self._embeddings) > _MAX_VOCABULARIES:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(entries)
        return self._embeddings[entries]

    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Embeds sentences as they are: unit vectors, (sentences, C)."""
        tokens = _tokenize(self.tokenizer, tuple(sentences))
        encode = functools.partial(_encode_tokens, self._model)
        if self._gradient_checkpointing and torch.is_grad_enabled():
            encode = functools.partial(checkpoint, encode, use_reentrant=False)
        parts = [encode(part) for part in tokens.split(self._batch_size)]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def truncated_names(self, entries: Entries) -> tuple[str, ...]:
        """Returns the names with which a sentence has more tokens than CLIP reads.

        The tokenizer cuts such a sentence, so that two names that begin alike may become one. A
        name is tried in the template with most tokens.

        Args:
            entries: names of each entry.
        """
        longer = functools.partial(self.tokenizer, context_length=self.tokenizer.context_length + 1)
        padding = longer([""])[0, -1]
        sizes = (longer([t.format("") for t in self.templates]) != padding).sum(dim=1)
        template = self.templates[int(sizes.argmax())]
        names = tuple(dict.fromkeys(name for names in entries for name in names))
        last = longer([template.format(name) for name in names])[:, -1]
        return tuple(name for name, token in zip(names, last) if token != padding)

    def forget(self) -> None:
        """Empties the memory."""
        self._embeddings.clear()

    def _embed(self, entries: Entries) -> Tensor:
        sentences = [
            template.format(name)
            for names in entries
            for name in names
            for template in self.templates
        ]
        # Names that occur in several entries are encoded once.
        unique = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        embedded = self.encode_sentences(list(unique))
        # CLIP pads with 0: only a full row can have been cut.
        if _tokenize(self.tokenizer, tuple(unique))[:, -1].any():
            self._warn_of_truncation(entries)
        rows = torch.tensor([unique[sentence] for sentence in sentences], device=embedded.device)
        per_name = embedded[rows].unflatten(0, (-1, len(self.templates)))  # (names, P, C)

        sizes = torch.tensor([len(names) for names in entries], device=embedded.device)
        owner = torch.repeat_interleave(torch.arange(len(entries), device=embedded.device), sizes)
        sums = per_name.new_zeros(len(entries), *per_name.shape[1:]).index_add(0, owner, per_name)
        if self._average_templates:
            sums = sums.sum(dim=1, keepdim=True)
        return F.normalize(sums, dim=-1)

    def _warn_of_truncation(self, entries: Entries) -> None:
        names = [n for n in self.truncated_names(entries) if n not in self._warned_of]
        self._warned_of.update(names)
        if names:
            shown = ", ".join(repr(f"{name[:60]}...") for name in names[:5])
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            logger.warning(
                "CLIP reads %d tokens of a sentence and so only the beginning of %s%s: shorten "
                "these names.",
                self.tokenizer.context_length,
                shown,
                more,
            )


@functools.lru_cache(maxsize=4)
def _tokenize(tokenizer: Tokenizer, sentences: tuple[str, ...]) -> Tensor:
    """Tokenizes to (sentences, length): each training step reads the same names once more."""
    # What is remembered from inference mode must be good for training, too.
    with torch.inference_mode(False):
        return tokenizer(sentences)


def _encode_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """Runs ``model.encode_text``, over the tokens in use where the tower is causal.

    Tokens are on the CPU, which need not wait for a GPU to count them. A causal tower pooled at the
    end-of-text token (the highest id) never looks at the padding behind it, and class names fill 8
    of the 77 positions or so.
    """
    device = next(model.parameters()).device
    causal = isinstance(model, CLIP) and model.attn_mask is not None
    if not causal or model.text_pool_type != "argmax":
        return model.encode_text(tokens.to(device))
    length = int(tokens.argmax(dim=1).max()) + 1
    tokens = tokens[:, :length].to(device)
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = text_global_pool(model.ln_final(x), tokens, "argmax")
    projection = model.text_projection
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
