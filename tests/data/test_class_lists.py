import json

import pytest
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from escnet_d2.data.class_lists import (
    CLASS_LIST_VARIANTS,
    bundled_class_lists,
    class_list_variant,
    find_class_list,
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
    assert {name: len(read_class_list(name)) for name in SIZES} == SIZES
    for name in SIZES:
        for entry in read_class_list(name):
            assert all(part == part.strip() and part for part in entry.split(", "))
    variants = {name for lists in CLASS_LIST_VARIANTS.values() for name in lists.values()}
    assert {*bundled_class_lists()} == {*SIZES, *variants, "coco_panoptic"}


def differing(name, other):
    pairs = zip(read_class_list(name), read_class_list(other))
    return [pair for pair in pairs if pair[0] != pair[1]]


def test_spaced_names_are_the_same_words():
    pairs = differing("pc459", "pc459_spaced")
    assert len(pairs) == 94
    assert all(joined == spaced.replace(" ", "") for joined, spaced in pairs)
    assert ("baseballbat", "baseball bat") in pairs


def test_variants_differ_as_the_releases_do():
    assert differing("voc20", "voc20_san") == [("tvmonitor", "tv")]
    pairs = differing("ade150", "ade150_detectron2")
    assert len(pairs) == 51
    assert ("road", "road, route") in pairs
    with_synonyms = [name for name in read_class_list("ade150_fcclip") if ", " in name]
    assert len(with_synonyms) == 116


def test_panoptic_names_are_detectron2s():
    assert list(read_class_list("coco_panoptic")) == [c["name"] for c in COCO_CATEGORIES]


def test_pas_21_is_pas_20_after_a_background():
    background, *classes = read_class_list("voc21_fcclip")
    assert background.startswith("background, crops, bush")
    assert tuple(classes) == read_class_list("voc20_fcclip")


def test_every_variant_has_as_many_classes_as_its_family():
    for lists in CLASS_LIST_VARIANTS.values():
        for family, name in lists.items():
            size = 21 if family == "voc21" else len(read_class_list(family))
            assert len(read_class_list(name)) == size


def test_release_without_a_list_for_the_benchmark():
    with pytest.raises(ValueError, match=r"no 'fcclip' class list for 'voc20b'.*ade150"):
        class_list_variant("voc20b", "fcclip")


@pytest.mark.parametrize("name", sorted(SIZES))
def test_bundled_names_are_those_that_the_releases_evaluate_with(name, shared_data):
    published = json.loads((shared_data / "class_lists" / f"{name}.json").read_text())
    # Stray spaces are stripped ("bed " in ADE20K-150, "c p u , central processor" in ADE20K-847),
    # and a synonym counts once (FC-CLIP gives "kitchen range" twice).
    cleaned = [
        ", ".join(dict.fromkeys(part.strip() for part in entry.split(","))) for entry in published
    ]
    assert list(read_class_list(name)) == cleaned


def test_voc20b_starts_with_voc20_and_holds_pc59():
    assert read_class_list("voc20b")[:20] == read_class_list("voc20")
    assert set(read_class_list("voc20b")) == set(read_class_list("pc59"))


def test_missing_file_is_named_with_the_alternatives(tmp_path):
    assert find_class_list(tmp_path / "none.txt") is None
    # A folder that is called like a list.
    assert find_class_list("some/ade150") is None
    with pytest.raises(FileNotFoundError, match=r"none\.txt.*ade150"):
        read_class_list(tmp_path / "none.txt")


def test_commas_in_names_are_refused(tmp_path):
    (tmp_path / "list.txt").write_text('"dirt, track"\n')
    with pytest.raises(ValueError, match="not in 'dirt, track'"):
        read_class_list(tmp_path / "list.txt")


def test_names_are_stripped_and_joined():
    assert read_class_list([" bed ", "couch|sofa", ["a ", "b"]]) == ("bed", "couch, sofa", "a, b")
