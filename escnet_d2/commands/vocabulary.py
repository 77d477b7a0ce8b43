"""Prints how a vocabulary is read: classes, their names and tokens.

::

    escnet-d2 vocabulary "couch|sofa, dog"
    escnet-d2 vocabulary classes.txt --weights model_large.pth

With a model, it also prints pairs of classes whose embeddings are nearly equal.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from escnet_d2.structures import Vocabulary

# CLIP's context, without the tokens that begin and end a sentence.
_MAX_TOKENS = 75
# Cosine of the embeddings of two classes that images hardly tell apart.
_NEAR = 0.95
_MAX_PAIRS = 20


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("vocabulary", metavar="WORDS|FILE|NAME", help="as for escnet-d2 segment")
    add("--weights", metavar="FILE|NAME", help="compare the embeddings of this checkpoint too")
    add("--config-file", metavar="F", help="name or path; default: that of the weights")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        The exit code.
    """
    args = argument_parser().parse_args(arguments)
    from escnet_d2.engine.console import held_messages

    with held_messages(logging.WARNING):
        return run(args)


def run(args: argparse.Namespace) -> int:
    """Reads the vocabulary and prints what :func:`main` says; returns the exit code."""
    from escnet_d2.engine import OpenVocabPredictor
    from escnet_d2.engine.console import release_messages
    from escnet_d2.engine.model_description import require_weights
    from escnet_d2.engine.predictor import configured_vocabulary, inference_config

    try:
        cfg = inference_config(args.config_file, weights=args.weights, opts=args.opts)
        vocabulary = configured_vocabulary(cfg, args.vocabulary)
        lines = describe(vocabulary)
        if args.config_file or args.weights:
            require_weights(cfg, allow_untrained=False)
            lines += near_duplicates(vocabulary, OpenVocabPredictor(cfg).model)
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"vocabulary: error: {error}\n")
        return 2
    release_messages()
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def describe(vocabulary: Vocabulary) -> list[str]:
    """Returns a line per text entry: class index, class, names that are read and their tokens."""
    from open_clip.tokenizer import SimpleTokenizer

    from escnet_d2.structures.vocabulary import short

    tokenizer = SimpleTokenizer()
    lines = [f"classes: {vocabulary.num_classes}, text entries: {vocabulary.num_entries}"]
    for index, names in zip(vocabulary.entry_classes, vocabulary.entries):
        tokens = [len(tokenizer.encode(name)) for name in names]
        cut = " (CUT: CLIP reads 75)" if max(tokens) > _MAX_TOKENS else ""
        lines.append(
            f"{index:5d}  {short(vocabulary.class_names[index])}: {', '.join(map(short, names))}; "
            f"{'+'.join(map(str, tokens))} tokens{cut}"
        )
    if vocabulary.background_threshold is not None:
        index, threshold = vocabulary.num_classes - 1, vocabulary.background_threshold
        lines.append(f"{index:5d}  'background': where every score is below {threshold}")
    return lines


def near_duplicates(vocabulary: Vocabulary, model: nn.Module) -> list[str]:
    """Returns a line per pair of entries of different classes whose embeddings are nearly equal."""
    import torch
    from torch.nn import functional as F

    from escnet_d2.structures.vocabulary import short

    encoder = model.clip if hasattr(model, "clip") else model.sem_seg_head
    with torch.inference_mode():
        embeddings = F.normalize(encoder.encode_text(vocabulary.entries).mean(dim=1), dim=-1).cpu()
    cosines = (embeddings @ embeddings.T).triu(diagonal=1)
    pairs = [
        (float(cosines[row, column]), row, column)
        for row, column in (cosines > _NEAR).nonzero().tolist()
        if vocabulary.entry_classes[row] != vocabulary.entry_classes[column]
    ]
    lines = [f"pairs of entries with a cosine above {_NEAR}: {len(pairs)}"]
    for cosine, *entries in sorted(pairs, reverse=True)[:_MAX_PAIRS]:
        names = (" = ".join(map(short, vocabulary.entries[entry])) for entry in entries)
        lines.append(f"{cosine:.3f}  {' and '.join(names)}")
    return lines
