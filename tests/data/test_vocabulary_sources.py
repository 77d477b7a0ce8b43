from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog

from escnet_d2.data import register_folder_dataset, resolve_vocabulary, vocabulary_of_dataset
from escnet_d2.structures import Vocabulary

A847 = "ade20k_full_sem_seg_freq_val_all"
WITH_BACKGROUND = "voc_2012_test_background_sem_seg"


def test_data_set_gives_its_own_classes():
    vocabulary = vocabulary_of_dataset("ade20k_150_test_sem_seg")
    assert vocabulary.num_entries == vocabulary.num_classes == 150
    assert vocabulary.is_one_to_one
    assert vocabulary.entries[7] == ("bed",)


def test_ade847_display_names_are_unique_and_synonyms_follow_the_mode():
    first = vocabulary_of_dataset(A847)
    assert len(set(first.class_names)) == first.num_entries == 847
    assert first.entries[1] == ("building",)
    assert vocabulary_of_dataset(A847, synonyms="mean").entries[1] == ("building", "edifice")
    best = vocabulary_of_dataset(A847, synonyms="max")
    assert best.entries[1:3] == (("building",), ("edifice",))
    assert best.entry_classes[:4] == (0, 1, 1, 2)


@pytest.mark.parametrize("override", ["", "catseg"])
def test_pas20b_maps_59_entries_to_21_classes(override):
    vocabulary = vocabulary_of_dataset(WITH_BACKGROUND, override=override)
    assert (vocabulary.num_entries, vocabulary.num_classes) == (59, 21)
    assert vocabulary.entry_classes == (*range(20), *[20] * 39)
    assert vocabulary.class_names[20] == "background"
    assert vocabulary.background_threshold is None


def test_override_replaces_names_but_not_the_mapping(tmp_path):
    path = tmp_path / "entries.txt"
    path.write_text("\n".join(f"name{index}, other{index}" for index in range(59)))
    vocabulary = vocabulary_of_dataset(WITH_BACKGROUND, override=str(path), synonyms="max")
    assert vocabulary.num_entries == 118
    assert vocabulary.entry_classes == (
        *(index for index in range(20) for _ in range(2)),
        *[20] * 78,
    )
    assert vocabulary.class_names == tuple(MetadataCatalog.get(WITH_BACKGROUND).stuff_classes)


def test_override_of_another_length_names_both():
    with pytest.raises(ValueError, match=r"pc59 has 59 classes.*ade20k_150_test_sem_seg.*150"):
        vocabulary_of_dataset("ade20k_150_test_sem_seg", override="pc59")


def test_unknown_data_set_is_named_and_not_created():
    with pytest.raises(ValueError, match="no_such_set.*ade20k_150_test_sem_seg"):
        vocabulary_of_dataset("no_such_set")
    assert "no_such_set" not in MetadataCatalog


def test_vocabulary_passes_through():
    vocabulary = Vocabulary.from_classes(["a"])
    assert resolve_vocabulary(vocabulary, synonyms="max") is vocabulary


def test_long_text_is_not_a_file_name():
    names = [f"class number {index}" for index in range(1000)]
    assert resolve_vocabulary(", ".join(names)).class_names == tuple(names)


def test_file_wins_over_data_set_and_bundled_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_vocabulary("voc20").num_classes == 20
    (tmp_path / "voc20").write_text("only\n")
    assert resolve_vocabulary("voc20").class_names == ("only",)
    (tmp_path / "context_59_test_sem_seg").write_text("mine\n")
    assert resolve_vocabulary("context_59_test_sem_seg").class_names == ("mine",)
    assert resolve_vocabulary(tmp_path / "voc20").class_names == ("only",)


def test_data_set_and_bundled_names():
    register_folder_dataset("mine", "images", "labels", ["cat", "dog|hound"])
    names = ("cat", "dog", "background")
    assert resolve_vocabulary("mine", background="words").class_names == names
    assert resolve_vocabulary("datasets/pc59.json").num_classes == 59
    assert resolve_vocabulary("coco").num_classes == 171
    assert resolve_vocabulary("coco,").class_names == ("coco",)
    # A data set wins over a bundled list of the same name.
    register_folder_dataset("coco", "images", "labels", ["cat"])
    assert resolve_vocabulary("coco").class_names == ("cat",)


def test_background_of_a_data_set_that_has_one():
    assert resolve_vocabulary(WITH_BACKGROUND).num_classes == 21
    with pytest.raises(ValueError, match="has a background class"):
        resolve_vocabulary(WITH_BACKGROUND, background="words")


@pytest.mark.parametrize(
    "spec",
    [
        *("names.txt", "lists/names.json", "lists/names", "a, b.txt"),
        *("folder", "names.csv", "my names.tsv", Path("dog")),
    ],
)
def test_folders_and_missing_files_are_not_classes(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{spec} does not exist, or is not a file"):
        resolve_vocabulary(spec)
    assert resolve_vocabulary("folder,").class_names == ("folder",)


@pytest.mark.parametrize("spec", ["", " , ", []])
def test_empty_vocabulary(spec):
    with pytest.raises(ValueError, match="empty"):
        resolve_vocabulary(spec)


@pytest.mark.parametrize(
    ("name", "release", "index", "names"),
    [
        (A847, "fcclip", 2, ("sky", "clouds")),
        (A847, "datasets/ade847_fcclip.json", 26, ("house exterior",)),
        ("context_459_test_sem_seg", "san", 2, ("air conditioner",)),
        ("context_459_test_sem_seg", "catseg", 2, ("airconditioner",)),
        ("openvocab_pascal20_sem_seg_val", "san", 19, ("tv",)),
        ("ade20k_150_test_sem_seg", "mess", 6, ("road", "route")),
    ],
)
def test_override_by_release_or_bundled_list(name, release, index, names):
    vocabulary = vocabulary_of_dataset(name, override=release, synonyms="mean")
    assert vocabulary.entries[index] == names


@pytest.mark.parametrize("name", [WITH_BACKGROUND, "mine"])
def test_release_without_names_for_the_data_set(name, tmp_path):
    if name == "mine":
        register_folder_dataset(name, tmp_path, tmp_path, ["a", "b"])
    with pytest.raises(ValueError, match="no 'fcclip' class list"):
        vocabulary_of_dataset(name, override="fcclip")


@pytest.mark.parametrize("kind", ["text", "list", "file"])
def test_names_that_are_not_read_are_told(kind, tmp_path, caplog):
    path = tmp_path / "classes.txt"
    path.write_text("couch, sofa, settee\ngrass\n")
    sources = {"text": "couch|sofa|settee, grass", "list": [["couch", "sofa", "settee"], "grass"]}
    spec = sources.get(kind, str(path))
    assert resolve_vocabulary(spec).entries == (("couch",), ("grass",))
    assert "not 'sofa', 'settee': VOCABULARY.SYNONYMS max or mean" in caplog.text
    caplog.clear()
    assert resolve_vocabulary(spec, synonyms="mean").entries[0] == ("couch", "sofa", "settee")
    assert resolve_vocabulary("couch, grass").num_entries == 2
    # The names of a benchmark are read as its papers do.
    assert resolve_vocabulary("ade847").num_entries == 847
    assert "SYNONYMS" not in caplog.text


@pytest.mark.parametrize(
    ("spec", "classes"),
    [
        (["a", "b, c"], [("a",), ("b", "c")]),
        (("dog",), [("dog",)]),
        ("couch|sofa, dog", [("couch", "sofa"), ("dog",)]),
        ("cat\ndog, sky\n# mine\n", [("cat",), ("dog",), ("sky",)]),
        ('["couch|sofa", "dog"]', [("couch", "sofa"), ("dog",)]),
        ('[["couch", "sofa"], {"name": "dog"}]', [("couch", "sofa"), ("dog",)]),
        ('"hot dog, big", cat', [("hot dog, big",), ("cat",)]),
        ('5" disc, cat', [('5" disc',), ("cat",)]),
        ("cup/mug, St. Bernard", [("cup/mug",), ("St. Bernard",)]),
        ("dog,", [("dog",)]),
    ],
)
def test_names_are_read_as_they_are_meant(spec, classes, caplog, tmp_path):
    assert resolve_vocabulary(spec, synonyms="mean").entries == tuple(classes)
    names = [(name,) for names in classes for name in names]
    assert resolve_vocabulary(spec, synonyms="max").entries == tuple(names)
    assert not caplog.messages
    if isinstance(spec, str) and spec.startswith("["):
        (tmp_path / "list.txt").write_text(spec)
        read = resolve_vocabulary(tmp_path / "list.txt", synonyms="mean")
        assert read.entries == tuple(classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["cat", dog]', "expected a JSON list of class names"),
        ('{"cat": 1}', "expected a JSON list of class names"),
        ('"hot dog, cat', "double quotes"),
        ('"hot" dog, cat', "double quotes"),
        ("cat, \u200b", "no visible character"),
    ],
)
def test_text_that_cannot_be_meant(text, message):
    with pytest.raises(ValueError, match=message):
        resolve_vocabulary(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a; b; c", "hold semicolons, not several classes: 'a; b; c'; separate classes by commas"),
        ("dog cat", "one class, 'dog cat', which every pixel may get: separate classes by commas"),
        ("dog", "one class, 'dog', which every pixel may get"),
        ("ade15", "did you mean ade150"),
        ("ade20k_150_test_sem_se", "did you mean ade20k_150_test_sem_seg"),
    ],
)
def test_doubtful_text_is_told(text, message, caplog):
    assert resolve_vocabulary(text).class_names == (text,)
    assert message in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\u732b\uff0c\u72d7, a", "hold full-width commas, not several classes"),
        ("- dog\n- cat", "quote or bracket that names begin with: '- dog', '- cat'"),
        ("1. dog\n2. cat", "that names begin with: '1. dog', '2. cat'"),
        ("('cat', 'dog')", "that names begin with: \"('cat'\""),
    ],
)
def test_doubtful_names_are_told(text, message, caplog):
    assert resolve_vocabulary(text).num_classes == 2
    assert message in caplog.text


def test_doubtful_files_are_told(tmp_path, caplog):
    path = tmp_path / "names.txt"
    path.write_text("cat\tanimal\ndog\tanimal\n")
    assert resolve_vocabulary(path).num_classes == 2
    assert "tabs, not several classes" in caplog.text
    path.write_text("cat, dog, sky\n")
    assert resolve_vocabulary(path).num_classes == 1
    assert "put each class on a line of its own" in caplog.text
    for content, message in (
        (b"\xff\xfe\x00cat", "names.txt is not a class list: it is not UTF-8"),
        (b'{"cat": 1}', "names.txt: expected a JSON list"),
        (b"\n", "is empty"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            resolve_vocabulary(path)


def test_a_single_class_beside_a_background_is_not_doubtful(caplog):
    assert resolve_vocabulary("dog", background="threshold").num_classes == 2
    assert not caplog.messages


def test_names_that_are_the_same_are_merged_and_told(caplog):
    words = "Sand, sand, s\u00adand, ｓａｎｄ, wet\u00a0 sand, Wet Sand, sea|SEA"
    vocabulary = resolve_vocabulary(words, synonyms="max")
    assert vocabulary.class_names == ("Sand", "wet  sand", "sea")
    assert vocabulary.num_entries == 3
    assert "Removed invisible characters from: 'sand', 'wet  sand'" in caplog.text
    assert "Merged names that are the same but for case, width or spaces" in caplog.text
    assert resolve_vocabulary(["cat", "cat"]).class_names == ("cat",)


def test_a_name_of_two_classes_is_told(caplog):
    both = "bag|handbag, bag|sack"
    assert resolve_vocabulary(both).num_classes == 2
    assert "A name of several classes, of which only rounding tells: 'bag'" in caplog.text
    caplog.clear()
    resolve_vocabulary("bag|sack, trunk|sack")
    assert "rounding" not in caplog.text
    resolve_vocabulary("bag|sack, trunk|sack", synonyms="max")
    assert "rounding tells: 'sack'" in caplog.text


def test_messages_do_not_grow_with_names(caplog):
    name = "x" * 10_000
    resolve_vocabulary([name, name.upper(), "a; b"])
    assert max(map(len, caplog.messages)) < 400
