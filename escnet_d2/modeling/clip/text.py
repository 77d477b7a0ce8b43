"""Text embeddings of class names: a pure function, and a cache that cannot go stale.

Shapes: K entries of the vocabulary, P templates, C channels of the space shared with images.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
from open_clip import CLIP
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Tokenizer = Callable[[Sequence[str]], Tensor]
Entries = Sequence[Sequence[str]]


def embed_entries(
    model: nn.Module,
    tokenizer: Tokenizer,
    entries: Entries,
    templates: Sequence[str],
    *,
    average_templates: bool,
    batch_size: int,
    gradient_checkpointing: bool = False,
) -> Tensor:
    """Embeds class names in sentences.

    Each sentence is embedded and normalised once; an entry with several names is the mean over
    them, template by template; the result is normalised again.

    Args:
        model: an open_clip model.
        tokenizer: its tokenizer.
        entries: names of each entry.
        templates: sentences with one ``{}``.
        average_templates: average over the templates, so that P = 1.
        batch_size: sentences per forward pass.
        gradient_checkpointing: as in :func:`embed_sentences`.

    Returns:
        Unit vectors, (K, P, C).
    """
    sentences = [
        template.format(name) for names in entries for name in names for template in templates
    ]
    # Names that occur in several entries are encoded once.
    unique = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
    embedded = embed_sentences(
        model,
        tokenizer,
        list(unique),
        batch_size,
        gradient_checkpointing=gradient_checkpointing,
    )
    rows = torch.tensor([unique[sentence] for sentence in sentences], device=embedded.device)
    per_name = embedded[rows].unflatten(0, (-1, len(templates)))  # (names, P, C)

    sizes = torch.tensor([len(names) for names in entries], device=embedded.device)
    owner = torch.repeat_interleave(torch.arange(len(entries), device=embedded.device), sizes)
    sums = per_name.new_zeros(len(entries), *per_name.shape[1:]).index_add(0, owner, per_name)
    if average_templates:
        sums = sums.sum(dim=1, keepdim=True)
    return F.normalize(sums, dim=-1)


def embed_sentences(
    model: nn.Module,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    batch_size: int,
    *,
    gradient_checkpointing: bool = False,
) -> Tensor:
    """Embeds sentences as they are.

    Args:
        model: an open_clip model.
        tokenizer: its tokenizer.
        sentences: any texts.
        batch_size: sentences per forward pass.
        gradient_checkpointing: keep no activations for the backward pass, which then computes each
            part once more.

    Returns:
        Unit vectors, (sentences, C).
    """
    device = next(model.parameters()).device
    tokens = _tokenize(tokenizer, tuple(sentences)).to(device)
    encode = functools.partial(_encode_text, model)
    if gradient_checkpointing and torch.is_grad_enabled():
        encode = functools.partial(checkpoint, encode, use_reentrant=False)
    parts = [encode(part) for part in tokens.split(batch_size)]
    return F.normalize(torch.cat(parts).float(), dim=-1)


@functools.lru_cache(maxsize=4)
def _tokenize(tokenizer: Tokenizer, sentences: tuple[str, ...]) -> Tensor:
    """Tokens, (sentences, length): each training step reads the same names once more."""
    # What is remembered from inference mode must serve training, too.
    with torch.inference_mode(False):
        return tokenizer(sentences)


def _encode_text(model: nn.Module, tokens: Tensor) -> Tensor:
    """``model.encode_text``, over the tokens in use where the tower is causal.

    A causal tower pooled at the end-of-text token (the highest id) never looks at the padding
    behind it, and class names fill 8 of the 77 positions or so.
    """
    causal = isinstance(model, CLIP) and model.attn_mask is not None
    if not causal or model.text_pool_type != "argmax":
        return model.encode_text(tokens)
    length = int(tokens.argmax(dim=1).max()) + 1
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = text_global_pool(model.ln_final(x), tokens, "argmax")
    projection = model.text_projection
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def encode_entries(
    cache: TextEmbeddingCache,
    model: nn.Module,
    tokenizer: Tokenizer,
    entries: Entries,
    templates: Sequence[str],
    *,
    training: bool,
    average_templates: bool,
    batch_size: int,
    gradient_checkpointing: bool,
) -> Tensor:
    """:func:`embed_entries`, remembered while no gradient is wanted.

    That is in testing, and in training with a frozen text tower.

    Args:
        cache: where to look and to keep what has no gradient.
        model: an open_clip model; weights of its image tower (``visual.``) do not matter.
        tokenizer: see :func:`embed_entries`, as the other arguments.
        entries: see above.
        templates: see above.
        training: whether weights that are open learn from the result.
        average_templates: see above.
        batch_size: see above.
        gradient_checkpointing: see above.
    """
    weights = [
        weight for name, weight in model.named_parameters() if not name.startswith("visual.")
    ]
    embed = functools.partial(
        embed_entries,
        model,
        tokenizer,
        entries,
        templates,
        average_templates=average_templates,
        batch_size=batch_size,
        gradient_checkpointing=gradient_checkpointing,
    )
    if training and any(weight.requires_grad for weight in weights):
        return embed()
    key = (tuple(map(tuple, entries)), tuple(templates), average_templates)
    # In full precision, so that what is remembered does not depend on who asked first.
    with torch.no_grad(), torch.autocast(weights[0].device.type, enabled=False):
        return cache.get(weights, key, embed)


class TextEmbeddingCache:
    """Remembers embeddings for as long as the weights that made them stay the same.

    The key holds a fingerprint of the weights, so that neither an optimizer step, nor a loaded
    checkpoint, nor a change written past autograd (``.data``) can leave stale embeddings.
    """

    def __init__(self, max_vocabularies: int = 16) -> None:
        self._max_vocabularies = max_vocabularies
        self._embeddings: OrderedDict[tuple, Tensor] = OrderedDict()

    def clear(self) -> None:
        """Forgets everything."""
        self._embeddings.clear()

    def get(self, weights: Iterable[Tensor], key: tuple, compute: Callable[[], Tensor]) -> Tensor:
        """Returns what was computed for these weights and this key, or computes it.

        Args:
            weights: all tensors that the result depends on.
            key: hashable rest: entries, templates and the like.
            compute: makes the embeddings.
        """
        key = (*key, _fingerprint(weights))
        if key not in self._embeddings:
            self._embeddings[key] = compute().detach()
            while len(self._embeddings) > self._max_vocabularies:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(key)
        return self._embeddings[key]


def _fingerprint(weights: Iterable[Tensor]) -> tuple:
    """Changes whenever a weight does: version counters, and row sums for writes that skip them.

    Row sums read each weight once, and are small enough in magnitude for rounding not to hide a
    change.
    """
    weights = [weight.detach() for weight in weights]
    versions = tuple(
        (weight.data_ptr(), None if weight.is_inference() else weight._version)
        for weight in weights
    )
    rows = [weight.flatten(1).sum(dim=1) if weight.dim() > 1 else weight for weight in weights]
    sums = torch.cat([row.reshape(-1).float() for row in rows])
    return (versions, hashlib.sha256(sums.cpu().numpy().tobytes()).digest())
