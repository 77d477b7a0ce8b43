import pytest
from detectron2.data import MetadataCatalog

from escnet_d2.data import register_folder_dataset, resolve_vocabulary, vocabulary_of_dataset
from escnet_d2.structures import Vocabulary

WITH_BACKGROUND = "voc_2012_test_background_sem_seg"


def test_data_set_gives_its_own_classes():
    vocabulary = vocabulary_of_dataset("ade20k_150_test_sem_seg")
    assert vocabulary.num_entries == vocabulary.num_classes == 150
    assert vocabulary.is_one_to_one
    assert vocabulary.entries[7] == ("bed",)


def test_ade847_display_names_are_unique_and_synonyms_follow_the_mode():
    name = "ade20k_full_sem_seg_freq_val_all"
    first = vocabulary_of_dataset(name)
    assert len(set(first.class_names)) == first.num_entries == 847
    assert first.entries[1] == ("building",)
    assert vocabulary_of_dataset(name, synonyms="mean").entries[1] == ("building", "edifice")
    best = vocabulary_of_dataset(name, synonyms="max")
    assert best.entries[1:3] == (("building",), ("edifice",))
    assert best.entry_classes[:4] == (0, 1, 1, 2)


def test_pas20b_maps_59_entries_to_21_classes():
    vocabulary = vocabulary_of_dataset(WITH_BACKGROUND)
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


def test_override_may_be_a_bundled_list():
    name = "ade20k_full_sem_seg_freq_val_all"
    vocabulary = vocabulary_of_dataset(name, override="datasets/ade847_fcclip.json")
    assert vocabulary.class_names[26] == "house exterior"


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


def test_sequences_and_text():
    assert resolve_vocabulary(["a", "b, c"], synonyms="mean").entries == (("a",), ("b", "c"))
    assert resolve_vocabulary(("dog",)).class_names == ("dog",)
    assert resolve_vocabulary("couch|sofa, dog", synonyms="max").entries == (
        ("couch",),
        ("sofa",),
        ("dog",),
    )
    assert resolve_vocabulary("dog").class_names == ("dog",)


def test_long_text_is_no_file_name():
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
    assert resolve_vocabulary("mine", background="words").class_names == (
        "cat",
        "dog",
        "background",
    )
    assert resolve_vocabulary("datasets/pc59.json").num_classes == 59
    assert resolve_vocabulary("coco").num_classes == 171
    assert resolve_vocabulary("coco,").class_names == ("coco",)


def test_data_set_wins_over_a_bundled_list_of_the_same_name():
    register_folder_dataset("coco", "images", "labels", ["cat"])
    assert resolve_vocabulary("coco").class_names == ("cat",)


def test_background_of_a_data_set_that_has_one():
    assert resolve_vocabulary(WITH_BACKGROUND).num_classes == 21
    with pytest.raises(ValueError, match="has a background class"):
        resolve_vocabulary(WITH_BACKGROUND, background="words")


@pytest.mark.parametrize("spec", ["names.txt", "lists/names.json", "lists/names", "a, b.txt"])
def test_missing_path_is_an_error_and_no_class(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=spec):
        resolve_vocabulary(spec)


def test_path_object_is_never_text(tmp_path):
    with pytest.raises(FileNotFoundError):
        resolve_vocabulary(tmp_path / "dog")


def test_slash_inside_a_list_is_part_of_a_name():
    assert resolve_vocabulary("cup/mug, dog").class_names == ("cup/mug", "dog")


@pytest.mark.parametrize("spec", ["", " , ", []])
def test_empty_vocabulary(spec):
    with pytest.raises(ValueError, match="empty"):
        resolve_vocabulary(spec)


@pytest.mark.parametrize(
    ("name", "release", "index", "names"),
    [
        ("ade20k_full_sem_seg_freq_val_all", "fcclip", 2, ("sky", "clouds")),
        ("context_459_test_sem_seg", "san", 2, ("air conditioner",)),
        ("context_459_test_sem_seg", "catseg", 2, ("airconditioner",)),
        ("openvocab_pascal20_sem_seg_val", "san", 19, ("tv",)),
        ("ade20k_150_test_sem_seg", "mess", 6, ("road", "route")),
    ],
)
def test_override_by_release(name, release, index, names):
    vocabulary = vocabulary_of_dataset(name, override=release, synonyms="mean")
    assert vocabulary.entries[index] == names


def test_override_by_release_keeps_the_background_mapping():
    vocabulary = vocabulary_of_dataset(WITH_BACKGROUND, override="catseg")
    assert vocabulary.entry_classes == (*range(20), *[20] * 39)


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
    assert "not sofa, settee: VOCABULARY.SYNONYMS max or mean" in caplog.text
    caplog.clear()
    assert resolve_vocabulary(spec, synonyms="mean").entries[0] == ("couch", "sofa", "settee")
    assert resolve_vocabulary("couch, grass").num_entries == 2
    # The names of a benchmark are read as its papers do.
    assert resolve_vocabulary("ade847").num_entries == 847
    assert "SYNONYMS" not in caplog.text
