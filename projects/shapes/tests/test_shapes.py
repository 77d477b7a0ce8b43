"""The procedural data set: the same on every machine, and without masks of unseen classes."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from escnet_d2.io import read_image, read_label_map
from escnet_d2.projects.shapes import (
    CLASSES,
    SEEN_THINGS,
    SPLITS,
    STUFF,
    THINGS,
    TRAIN_CLASSES,
    UNSEEN_THINGS,
    draw_scene,
    group_miou,
    prepare_split,
    read_captions,
    scenes_sha256,
)

REPO = Path(__file__).resolve().parents[3]

# Of the first four scenes of each split; a change means another WORLD_VERSION.
CHECKSUMS = {
    "train": "718b3b72ac3833342541888ab168c7cd290e04b0143499141b3a32e583b14ae6",
    "val": "c157879aa873f81732315f4329522113bd95ef59bfd171be8215f765e4a39ad5",
    "pretrain": "370020ce060581c4ed6c49098fec09c6cd60498bb8e70667c38ec49726286020",
    "pretrain_val": "208a8574b964b4c55f76e393471a0db351b3c470adb5c51f64989714ef166849",
    "demo": "43dd278073bb495bb22a233b09da08787e94b44530fafc01adb9818cf4200a29",
}


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    return prepare_split(tmp_path_factory.mktemp("shapes"), "demo")


@pytest.mark.parametrize("name", list(SPLITS))
def test_scenes_are_those_of_the_recorded_checksum(name):
    assert scenes_sha256(SPLITS[name].draw(index) for index in range(4)) == CHECKSUMS[name]


def test_a_scene_depends_on_its_seed_alone():
    first = draw_scene((5, 6))
    draw_scene((1, 2))  # Whatever was drawn before.
    assert scenes_sha256([draw_scene((5, 6))]) == scenes_sha256([first])
    assert scenes_sha256([draw_scene((5, 7))]) != scenes_sha256([first])


def test_a_quarter_of_the_things_is_unseen_and_every_pair_of_attributes_is_seen():
    assert len(THINGS) == 60
    assert len(UNSEEN_THINGS) == 15
    assert set(SEEN_THINGS) | set(UNSEEN_THINGS) == set(THINGS)
    for pair in combinations(("texture", "color", "shape"), 2):
        wanted = set(product(*({getattr(thing, name) for thing in THINGS} for name in pair)))
        assert {tuple(getattr(thing, name) for name in pair) for thing in SEEN_THINGS} == wanted


def test_training_classes_come_first():
    assert CLASSES[: len(TRAIN_CLASSES)] == TRAIN_CLASSES
    assert len(TRAIN_CLASSES) == 51
    assert len(set(CLASSES)) == len(CLASSES) == 66
    assert not set(TRAIN_CLASSES) & {thing.name for thing in UNSEEN_THINGS}


def test_training_scenes_hold_no_unseen_thing():
    scenes = [SPLITS["train"].draw(index) for index in range(40)]
    assert all(not thing.is_unseen for scene in scenes for thing in scene.things)
    assert max(scene.labels.max() for scene in scenes) < len(TRAIN_CLASSES)
    # The others do hold some, so that the check can fail.
    others = [SPLITS["val"].draw(index) for index in range(40)]
    assert max(scene.labels.max() for scene in others) >= len(TRAIN_CLASSES)


def test_labels_and_instances_agree():
    for index in range(10):
        scene = SPLITS["val"].draw(index)
        assert scene.image.shape == (128, 128, 3)
        assert scene.image.dtype == scene.labels.dtype == scene.instances.dtype == np.uint8
        assert 2 <= len(scene.things) <= 5
        for number, (thing, visible) in enumerate(zip(scene.things, scene.visible), start=1):
            names = {CLASSES[label] for label in scene.labels[scene.instances == number]}
            assert names <= {thing.name}
            assert 0 <= visible <= 1
        assert {CLASSES[label] for label in scene.labels[scene.instances == 0]} <= set(STUFF)


def test_later_things_cover_earlier_ones():
    covered = [
        scene
        for scene in (SPLITS["pretrain"].draw(index) for index in range(10))
        if min(scene.visible) < 1
    ]
    assert covered
    assert all(scene.visible[-1] == 1 for scene in covered)


def test_things_are_16_to_34_pixels():
    extents = []
    for index in range(20):
        scene = SPLITS["val"].draw(index)
        for number, visible in enumerate(scene.visible, start=1):
            if visible == 1:
                rows, columns = np.nonzero(scene.instances == number)
                extents.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    assert min(extents) >= 12  # A triangle or square within its circle.
    assert max(extents) <= 38  # A turned cross sticks out a little.
    assert max(extents) - min(extents) > 10


def test_captions_and_boxes_describe_the_scene(demo_folder):
    for index, entry in enumerate(read_captions(demo_folder)):
        scene = SPLITS["demo"].draw(index)
        assert entry["caption"] == scene.caption
        assert entry["caption"].endswith(" and ".join(scene.grounds))
        for thing in entry["things"]:
            left, top, right, bottom = thing["box"]
            name = f"{thing['texture']} {thing['color']} {thing['shape']}"
            inside = scene.labels[top:bottom, left:right] == CLASSES.index(name)
            # The box is tight: its first and last row and column hold a pixel of the thing.
            assert inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()
        for stuff in entry["stuff"]:
            left, top, right, bottom = stuff["box"]
            assert np.unique(scene.labels[top:bottom, left:right]).tolist() == [
                STUFF.index(stuff["kind"])
            ]


def test_files_hold_what_is_drawn(demo_folder):
    scene = SPLITS["demo"].draw(3)
    name = "00003.png"
    np.testing.assert_array_equal(read_image(demo_folder / "images" / name), scene.image)
    np.testing.assert_array_equal(read_label_map(demo_folder / "labels" / name), scene.labels)
    np.testing.assert_array_equal(read_label_map(demo_folder / "instances" / name), scene.instances)


def test_the_demo_ships_these_pictures(demo_folder):
    shipped = sorted((REPO / "demo/images").glob("*.png"))
    assert [path.name for path in shipped] == [
        path.name for path in sorted((demo_folder / "images").iterdir())
    ]
    for path in shipped:
        np.testing.assert_array_equal(
            read_image(path), read_image(demo_folder / "images" / path.name)
        )


def test_what_clip_reads_has_no_masks(tmp_path):
    folder = prepare_split(tmp_path, "pretrain", num_scenes=2)
    assert sorted(path.name for path in folder.iterdir()) == ["captions.json", "images"]


def test_several_processes_draw_the_same(tmp_path, demo_folder):
    folder = prepare_split(tmp_path, "demo", num_workers=2)
    assert read_captions(folder) == read_captions(demo_folder)
    np.testing.assert_array_equal(
        read_image(folder / "images/00011.png"), read_image(demo_folder / "images/00011.png")
    )


def test_a_folder_that_is_there_is_kept_and_checked(tmp_path):
    folder = prepare_split(tmp_path, "val", num_scenes=2)
    stamp = (folder / "captions.json").stat().st_mtime_ns
    assert prepare_split(tmp_path, "val", num_scenes=2) == folder
    assert (folder / "captions.json").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="2 scenes of world 1, expected 3 of world 1: delete"):
        prepare_split(tmp_path, "val", num_scenes=3)
    assert [path.name for path in tmp_path.iterdir()] == ["val"]


def test_captions_of_an_older_release_are_refused(tmp_path):
    folder = prepare_split(tmp_path, "val", num_scenes=1)
    captions = folder / "captions.json"
    captions.write_text(captions.read_text().replace('"color"', '"colour"'))
    assert prepare_split(tmp_path, "val", num_scenes=1) == folder
    with pytest.raises(ValueError, match="older release: delete the folder"):
        read_captions(folder)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no split 'test': train, val"):
        prepare_split(tmp_path, "test")


def test_registered_splits_are_drawn_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    samples = DatasetCatalog.get("shapes_demo_sem_seg")
    assert len(samples) == 12
    assert Path(samples[0]["file_name"]) == tmp_path / "shapes/demo/images/00000.png"
    assert read_label_map(samples[0]["sem_seg_file_name"]).shape == (128, 128)


def test_metadata_names_the_classes_of_each_split():
    assert MetadataCatalog.get("shapes_train_sem_seg").stuff_classes == list(TRAIN_CLASSES)
    assert MetadataCatalog.get("shapes_val_sem_seg").stuff_classes == list(CLASSES)


def test_group_scores_by_hand():
    iou = dict.fromkeys(CLASSES, 50.0)
    iou.update(dict.fromkeys((thing.name for thing in UNSEEN_THINGS), 20.0))
    iou[UNSEEN_THINGS[0].name] = None
    iou["grass"] = 110.0
    scores = group_miou(iou)
    assert scores["stuff"] == pytest.approx(60)
    assert scores["seen things"] == pytest.approx(50)
    assert scores["unseen things"] == pytest.approx(20)
    assert scores["harmonic mean"] == pytest.approx(2 * 50 * 20 / 70)
