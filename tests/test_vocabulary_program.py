"""``escnet-d2 vocabulary``, in this process."""

from __future__ import annotations

import torch

from escnet_d2.commands.vocabulary import describe, main, near_duplicates
from escnet_d2.structures import Vocabulary


def test_classes_names_and_tokens_are_printed(capsys):
    assert main(["couch|sofa, dog", "--opts", "VOCABULARY.SYNONYMS", "mean"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "classes: 2, text entries: 2",
        "    0  'couch': 'couch', 'sofa'; 1+1 tokens",
        "    1  'dog': 'dog'; 1 tokens",
    ]


def test_names_that_clip_cuts_are_marked():
    lines = describe(Vocabulary.from_classes(["dog " * 76, "dog " * 75], background="threshold"))
    assert "76 tokens (CUT" in lines[1]
    assert "CUT" not in lines[2]
    assert lines[3].endswith("below 0.5")


def test_usage_errors(capsys):
    for arguments in (["missing.txt"], ["a", "--config-file", "none"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("vocabulary: error: ")
    assert main(["cat, dog", "--config-file", "escnet_tiny"]) == 2
    assert "untrained" in capsys.readouterr().err


def test_near_duplicates_are_pairs_of_different_classes():
    class Model:
        class clip:  # noqa: N801
            @staticmethod
            def encode_text(entries):
                vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]])
                return vectors[:, None]

    vocabulary = Vocabulary.from_classes(["a|b", "c", "d"], synonyms="max")
    lines = near_duplicates(vocabulary, Model())
    assert lines[0] == "pairs of entries with a cosine above 0.95: 2"
    assert lines[1:] == ["1.000  'a' and 'd'", "0.995  'b' and 'd'"]
