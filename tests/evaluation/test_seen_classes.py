import pytest

from escnet_d2.evaluation.metrics import match_seen_classes


@pytest.mark.parametrize(
    ("name", "training", "seen"),
    [
        ("dog", ["cat", "dog"], True),
        ("Dog ", ["dog"], True),
        ("airconditioner", ["air conditioner"], True),
        ("TV monitor", ["tvmonitor"], True),
        ("couch, sofa", ["sofa"], True),
        ("couch", ["sofa|couch"], True),
        ("sofa", ["couch"], False),
        ("hot dog", ["dog"], False),
        ("dog", [], False),
        (", ", ["a,,b"], False),
    ],
)
def test_any_name_counts_whatever_its_case_and_spaces(name, training, seen):
    assert match_seen_classes([name], training) == [seen]


def test_order_follows_the_data_set():
    assert match_seen_classes(["a", "b", "c"], ["c", "a"]) == [True, False, True]


def test_a_string_is_no_list_of_names():
    with pytest.raises(ValueError, match="'dog, cat'"):
        match_seen_classes(["dog"], "dog, cat")
