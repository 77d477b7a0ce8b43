"""MESS through a package of the form of mess-benchmark, and through the real one where it is."""

import importlib.util
import sys

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from escnet_d2.data import register_mess_datasets, vocabulary_of_dataset
from escnet_d2.data.datasets.mess import DOMAINS, MESS_DATASETS, MESS_NAMES
from escnet_d2.engine import load_config

REGISTER = """
from detectron2.data import DatasetCatalog, MetadataCatalog
for name in {names}:
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(
        stuff_classes=("others", "blood vessels"), ignore_label=255, evaluator_type="sem_seg",
        classes_of_interest=[1], background_class=0,
    )
"""


@pytest.fixture
def fake_mess(tmp_path, monkeypatch):
    """Puts a package ``mess`` on the path that registers the names given to it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "mess"]:
        monkeypatch.delitem(sys.modules, name)

    def make(names):
        folder = tmp_path / "mess/datasets"
        folder.mkdir(parents=True)
        (tmp_path / "mess/__init__.py").touch()
        (folder / "__init__.py").write_text(REGISTER.format(names=list(names)))
        monkeypatch.syspath_prepend(str(tmp_path))

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "mess"]:
        sys.modules.pop(name)


def test_there_are_22_data_sets_in_five_domains():
    assert len(MESS_DATASETS) == 22
    assert len(set(MESS_NAMES)) == 25
    counts = [sum(d.domain == domain for d in MESS_DATASETS) for domain in DOMAINS]
    assert counts == [6, 5, 4, 4, 3]


def test_names_of_mess_are_registered_when_they_are_wanted(fake_mess):
    fake_mess(MESS_NAMES)
    assert register_mess_datasets(["voc_2012_test_sem_seg"]) == []
    assert "chase_db1_sem_seg_test" not in DatasetCatalog
    assert register_mess_datasets(["voc_2012_test_sem_seg", "chase_db1_sem_seg_test"]) == [
        "chase_db1_sem_seg_test"
    ]
    assert set(MESS_NAMES) <= set(DatasetCatalog)
    vocabulary = vocabulary_of_dataset("chase_db1_sem_seg_test")
    assert vocabulary.class_names == ("others", "blood vessels")
    register_mess_datasets(MESS_NAMES)


def test_configurations_may_name_them(fake_mess):
    fake_mess(MESS_NAMES)
    cfg = load_config("escnet_tiny", ["DATASETS.TEST", ("cwfid_sem_seg_test",)])
    assert MetadataCatalog.get(cfg.DATASETS.TEST[0]).classes_of_interest == [1]


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mess", None)
    monkeypatch.setitem(sys.modules, "mess.datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'escnet-d2\[mess\]'"):
        register_mess_datasets(["suim_sem_seg_test"])


def test_package_without_the_data_set(fake_mess):
    fake_mess(["suim_sem_seg_test"])
    with pytest.raises(ValueError, match="does not register cwfid_sem_seg_test"):
        register_mess_datasets(["suim_sem_seg_test", "cwfid_sem_seg_test"])


@pytest.mark.skipif(importlib.util.find_spec("mess") is None, reason="needs mess-benchmark")
def test_the_real_package_has_them_all():
    # In a process where nobody imported it before; its registrations happen only once.
    assert register_mess_datasets(MESS_NAMES) == list(MESS_NAMES)
    for name in MESS_NAMES:
        metadata = MetadataCatalog.get(name)
        assert vocabulary_of_dataset(name).num_classes == len(metadata.stuff_classes)
        assert set(metadata.classes_of_interest) <= set(range(len(metadata.stuff_classes)))
