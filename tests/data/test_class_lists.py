import json

import pytest

from escnet_d2.data.class_lists import (
    bundled_class_lists,
    find_class_list,
    normalise_classes,
    read_class_list,
)

SIZES = {
    "ade150": 150,
    "ade847": 847,
    "ade847_fcclip": 847,
    "coco": 171,
    "pc459": 459,
    "pc59": 59,
    "voc20": 20,
    "voc20b": 59,
}


def test_bundled_lists_have_the_benchmarks_number_of_classes():
    assert {name: len(read_class_list(name)) for name in bundled_class_lists()} == SIZES


@pytest.mark.parametrize("name", sorted(SIZES))
def test_bundled_names_are_those_that_the_releases_evaluate_with(name, shared_data):
    published = json.loads((shared_data / "class_lists" / f"{name}.json").read_text())
    # Stray spaces are stripped ("bed " in ADE20K-150, "c p u , central processor" in ADE20K-847),
    # and a synonym counts once (FC-CLIP gives "kitchen range" twice).
    cleaned = [
        ", ".join(dict.fromkeys(part.strip() for part in entry.split(","))) for entry in published
    ]
    assert list(read_class_list(name)) == cleaned


@pytest.mark.parametrize("name", sorted(SIZES))
def test_bundled_names_have_no_stray_spaces(name):
    for entry in read_class_list(name):
        assert all(part == part.strip() and part for part in entry.split(", "))


def test_ade150_bed_is_stripped():
    assert read_class_list("ade150")[7] == "bed"


def test_voc20b_starts_with_voc20_and_holds_pc59():
    assert read_class_list("voc20b")[:20] == read_class_list("voc20")
    assert set(read_class_list("voc20b")) == set(read_class_list("pc59"))


def test_existing_file_wins_over_a_bundled_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_class_list("datasets/ade150.json")[0] == "wall"
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "ade150.json").write_text('["zebra", "ant|bug"]')
    assert read_class_list("datasets/ade150.json") == ("zebra", "ant, bug")


def test_json_objects_with_names(tmp_path):
    (tmp_path / "classes.json").write_text('[{"id": 0, "name": "a"}, {"id": 1, "name": "b , c"}]')
    assert read_class_list(tmp_path / "classes.json") == ("a", "b, c")


def test_missing_file_is_named_with_the_alternatives(tmp_path):
    assert find_class_list(tmp_path / "none.txt") is None
    with pytest.raises(FileNotFoundError, match=r"none\.txt.*ade150"):
        read_class_list(tmp_path / "none.txt")


def test_folder_called_like_a_list_is_not_the_list():
    assert find_class_list("some/ade150") is None


def test_normalise_strips_and_joins():
    assert normalise_classes([" bed ", "couch|sofa", ["a ", "b"]]) == ("bed", "couch, sofa", "a, b")
