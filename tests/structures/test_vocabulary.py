import json

import pytest

from escnet_d2.structures import Vocabulary
from escnet_d2.structures.vocabulary import classes_from_text


def test_synonym_modes():
    classes = ["couch, sofa", ["dog"]]
    first = Vocabulary.from_classes(classes)
    assert first.entries == (("couch",), ("dog",))
    assert first.is_one_to_one
    mean = Vocabulary.from_classes(classes, synonyms="mean")
    assert mean.entries == (("couch", "sofa"), ("dog",))
    best = Vocabulary.from_classes(classes, synonyms="max")
    assert best.entries == (("couch",), ("sofa",), ("dog",))
    assert best.entry_classes == (0, 0, 1)
    assert {v.class_names for v in (first, mean, best)} == {("couch", "dog")}


def test_string_file_and_json_agree(tmp_path):
    text = tmp_path / "classes.txt"
    text.write_text("# a comment\ncouch|sofa\n\n dog \n", encoding="utf-8")
    listed = tmp_path / "classes.json"
    listed.write_text(json.dumps(["couch, sofa", "dog"]))
    objects = tmp_path / "objects.json"
    objects.write_text(json.dumps([{"id": 0, "name": "couch, sofa"}, {"id": 1, "name": "dog"}]))
    expected = Vocabulary.from_classes(classes_from_text("couch|sofa, dog"), synonyms="mean")
    for path in (text, listed, objects):
        assert Vocabulary.from_file(path, synonyms="mean") == expected
    text.write_text("\n")
    with pytest.raises(ValueError, match="classes.txt: .*is empty"):
        Vocabulary.from_file(text)


def test_background_words():
    vocabulary = Vocabulary.from_classes(
        ["sky", "cat"], background="words", background_words=["Sky", "wall", "floor"]
    )
    assert vocabulary.class_names == ("sky", "cat", "background")
    assert vocabulary.entries == (("sky",), ("cat",), ("wall",), ("floor",))
    assert vocabulary.entry_classes == (0, 1, 2, 2)


def test_background_threshold():
    vocabulary = Vocabulary.from_classes(["cat"], background="threshold", background_threshold=0.3)
    assert vocabulary.class_names == ("cat", "background")
    assert vocabulary.num_entries == 1
    assert vocabulary.background_threshold == 0.3


def test_shared_first_names_are_told_apart():
    vocabulary = Vocabulary.from_classes(["bag, handbag", "bag, sack", "cat"])
    assert vocabulary.class_names == ("bag, handbag", "bag, sack", "cat")
    assert vocabulary.entries == (("bag",), ("bag",), ("cat",))


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ([], {}, "empty"),
        (["cat", " "], {}, "is empty"),
        (["cat", "cat"], {}, "Duplicate class names.*cat"),
        (["cat"], {"synonyms": "best"}, "synonyms must be one of first, mean, max"),
        (["cat"], {"background": "yes"}, "background must be one of none, words, threshold"),
        (["cat"], {"background": "threshold", "background_threshold": 2.0}, r"\[0, 1\]"),
        (["Background"], {"background": "words"}, "already has a class"),
        ("cat, dog", {}, "resolve_vocabulary"),
    ],
)
def test_bad_vocabularies(classes, options, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_classes(classes, **options)
