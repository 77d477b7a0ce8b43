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
    COLORS,
    SEEN_THINGS,
    SHAPES,
    SPLITS,
    STUFF,
    TEXTURES,
    THINGS,
    TRAIN_CLASSES,
    UNSEEN_THINGS,
    draw_scene,
    group_miou,
    prepare_split,
    read_captions,
    scenes_sha256,
)
from escnet_d2.projects.shapes.drawing import (
    THING_COLORS,
    color_part,
    shape_part,
    texture_part,
)

REPO = Path(__file__).resolve().parents[3]

# Of the first four scenes of each split; a change means another WORLD_VERSION.
CHECKSUMS = {
    "train": "d6bc1bae5848e086c01d777246a000c8154a3209a3b4b35fbc1effcb6b9062f6",
    "val": "6171e183c2204dcc3449c6f8b5ad941aa110569774b5fe73322bcb8d126b390a",
    "pretrain": "fcaed7094f5463c01d999335929e057f421d4eca236d9926c3734110981911cd",
    "pretrain_val": "ce6d68c3e91500dd0535a4fd92949c21aa293a468476c6dc60481c88c5fa0864",
    "demo": "e7c60be2b0ee9a39e3cc7ca137fc9bfe47c8e55e1e77c27e67b6d19348c8fd28",
    "sam": "2c1cfdff1c00b6a9fcb542456d693c833d0dde6e74d8cadc67381b44518e6e6a",
    "sam_val": "8e66ad3df0084f760c7f1478401eeb88176680ac262d9f5ee323cd7bdd39060b",
}


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    return prepare_split(tmp_path_factory.mktemp("shapes"), "demo")


@pytest.mark.parametrize("name", CHECKSUMS)
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
        assert scene.image.shape == (192, 192, 3)
        assert scene.image.dtype == scene.labels.dtype == scene.instances.dtype == np.uint8
        assert 2 <= len(scene.things) <= 4
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


def test_things_are_five_to_thirteen_patches():
    extents = []
    for index in range(20):
        scene = SPLITS["val"].draw(index)
        for number, visible in enumerate(scene.visible, start=1):
            rows, columns = np.nonzero(scene.instances == number)
            # Not those that others cover or that the border cuts.
            inside = len(rows) and min(rows.min(), columns.min()) > 0
            if visible == 1 and inside and max(rows.max(), columns.max()) < 191:
                extents.append((max(np.ptp(rows), np.ptp(columns)) + 1) / 8)
    assert 5 <= min(extents) < 8
    assert 11 < max(extents) <= 14


def test_a_thing_shows_each_attribute_in_a_part_of_its_own():
    """Parts of things that share an attribute look alike, whatever the rest of the name is."""
    rng = np.random.RandomState
    u, v = np.meshgrid(np.arange(34.0), np.arange(34.0))
    u, v = u.ravel(), v.ravel()
    looks = {
        "color": [color_part(THING_COLORS[color], u) for color in COLORS],
        "texture": [texture_part(rng(0), texture, u, v) for texture in TEXTURES],
        "shape": [shape_part(rng(0), shape, u, v) for shape in SHAPES],
    }
    for parts in looks.values():
        assert all((a != b).any() for a, b in combinations(parts, 2))
    # Only the color's part is colored.
    for part in looks["texture"]:
        assert (part.max(axis=1) - part.min(axis=1) < 1e-9).all()
    hues = [part / part.max(axis=1, keepdims=True) for part in looks["shape"]]
    np.testing.assert_allclose(*np.broadcast_arrays(hues[0][:1], np.stack(hues)))


def test_scraps_are_ground():
    scene = draw_scene((5, 6), num_things=(0, 0))
    assert not scene.instances.any()
    assert scene.labels.max() < len(STUFF)
    assert set(scene.grounds) == {"sand", "snow"}
    # Neither is as dark as the patterns of scraps.
    assert scene.image.max(axis=2).min() < 110


def test_colors_of_any_kind_differ_from_those_of_the_names():
    named, free = draw_scene((5, 6)), draw_scene((5, 6), any_colors=True)
    assert (named.image != free.image).any()
    assert free.labels.max() >= len(STUFF)


def test_small_training_sets_begin_like_the_large_one():
    for name in ("train_200", "train_50"):
        assert scenes_sha256([SPLITS[name].draw(7)]) == scenes_sha256([SPLITS["train"].draw(7)])


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
    with pytest.raises(ValueError, match="2 scenes of world 2, expected 3 of world 2: delete"):
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
    with pytest.raises(ValueError, match="no split 'test': train, train_200, train_50, val"):
        prepare_split(tmp_path, "test")


def test_registered_splits_are_drawn_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    samples = DatasetCatalog.get("shapes_demo_sem_seg")
    assert len(samples) == 12
    assert Path(samples[0]["file_name"]) == tmp_path / "shapes/demo/images/00000.png"
    assert read_label_map(samples[0]["sem_seg_file_name"]).shape == (192, 192)


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
