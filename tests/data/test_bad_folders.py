"""Folders, class lists and ``dataset.json`` as they should not be: a line that names the fault."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from escnet_d2.data import register_folder_dataset
from escnet_d2.data.check import main as check


def replace(file, make):
    """Puts something else in place of a file."""

    def damage(folder):
        (folder / file).unlink()
        make(folder / file)

    return damage


def rename(**targets):
    """Moves ``0.png`` in folders of the split."""

    def damage(folder):
        for kind, target in targets.items():
            (folder / kind / target).parent.mkdir(exist_ok=True)
            (folder / kind / "0.png").rename(folder / kind / target)

    return damage


def empty(kind, make=Path.mkdir):
    def damage(folder):
        shutil.rmtree(folder / kind)
        make(folder / kind)

    return damage


IMAGE, LABEL = "images/0.png", "labels/0.png"
# What is done to the folder train; exit code; what the message says.
FOLDERS = {
    "fifo image": (replace(IMAGE, os.mkfifo), 1, f"{IMAGE} is not"),
    "fifo label": (replace(LABEL, os.mkfifo), 1, f"{LABEL} is not"),
    "device": (replace(IMAGE, lambda p: p.symlink_to("/dev/zero")), 1, f"{IMAGE} is not a regular"),
    "dangling link": (replace(LABEL, lambda p: p.symlink_to("no.png")), 1, f"{LABEL} is not a reg"),
    "empty image": (replace(IMAGE, Path.touch), 1, IMAGE),
    "empty label": (replace(LABEL, Path.touch), 1, LABEL),
    "folder as label": (replace(LABEL, Path.mkdir), 1, f"{IMAGE} has no label map"),
    "case": (rename(labels="O.png", images="o.png"), 1, "O.png is in another folder or case"),
    "other folder": (rename(labels="a/0.png"), 1, f"{IMAGE} has no label map: "),
    "no shared name": (rename(labels="zero.png"), 1, f"{IMAGE} has no label map"),
    "two images": (lambda f: shutil.copy(f / IMAGE, f / "images/0.bmp"), 2, "keep one"),
    "link to parent": (lambda f: (f / "images/up").symlink_to(f), 2, "links to a folder"),
    "no images": (empty("images"), 2, "no .jpg"),
    "no folder": (lambda f: shutil.rmtree(f / "labels"), 2, "labels does not exist"),
    "file as folder": (empty("labels", Path.touch), 2, "label folder"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(project, case, capsys, prepare):
    damage, code, message = FOLDERS[case]
    damage(project / "train")
    assert prepare() == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert not (project / "prepared").exists()


def test_folders_in_folders_may_be_links(project, prepare):
    for kind in ("images", "labels"):
        (project / "train" / kind / "more").symlink_to(project / "val" / kind)
    assert prepare() == 0
    content = json.loads((project / "prepared/dataset.json").read_text())
    assert content["splits"]["train"]["num_images"] == 3


def test_what_is_no_file_is_left_out_of_training(project, caplog):
    replace(IMAGE, os.mkfifo)(project / "train")
    folders = project / "train/images", project / "train/labels"
    register_folder_dataset("bad", *folders, ["a", "b", "c"])
    [sample] = DatasetCatalog.get("bad")
    assert sample["file_name"].endswith("1.png")
    assert "1 name(s) of no regular file, such as" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "empty"),
        (b"# nothing\n\n", "empty"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "classes.txt"),
        ("caf\xe9\n".encode("latin-1"), "classes.txt"),
        (b"cat\ndog\ncat\n", "cat"),
    ],
)
def test_class_lists(project, content, message, capsys, prepare):
    (project / "classes.txt").unlink()
    if content is not None:
        (project / "classes.txt").write_bytes(content)
    assert prepare() == 2
    error = capsys.readouterr().err
    assert message in error.lower() and "classes.txt" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "Expecting value"),
        (b"\xff\xfe\x00", "utf-8"),
        ("[" * 100000, "recursion"),
        ("{", "Expecting"),
        ("[]", "the file must be a JSON dict"),
        ({"classes": None}, "'classes' must be a JSON list"),
        ({"classes": ["a", "a"]}, "Duplicate"),
        ({"splits": {}}, "'splits' is empty"),
        ({"splits": {"val": {}}}, "'image_root' is missing"),
        ({"name": "a/b"}, "'a/b_train' is unfit"),
        ({"ignore_label": "255"}, "'ignore_label' must be a JSON int"),
        ({"ignore_label": True}, "'ignore_label' must be a JSON int"),
        ({"name": 3}, "'name' must be a JSON str"),
        ({"version": 2}, "version 2, and this package reads 1"),
        ({"version": "new"}, "version 'new'"),
        ({"ignore_label": 2**40}, "ignore label must be in"),
        ({"splits": {"a": {"image_root": "a\0b", "sem_seg_root": "", "num_images": 1}}}, "null"),
    ],
)
def test_manifests(project, change, message, capsys, prepare):
    prepare()
    path = project / "prepared/dataset.json"
    if isinstance(change, dict):
        change = json.dumps({**json.loads(path.read_text()), **change})
    path.write_bytes(change.encode() if isinstance(change, str) else change)
    capsys.readouterr()
    # Neither read nor written over.
    for run in (lambda: check([str(path)]), lambda: prepare()):
        assert run() == 2
        error = capsys.readouterr().err
        assert f"{path} cannot be used" in error and message in error
        assert error.count("\n") == 1


def test_manifest_that_is_a_folder(project, capsys, prepare):
    (project / "prepared/dataset.json").mkdir(parents=True)
    for run in (lambda: check([str(project / "prepared/dataset.json")]), lambda: prepare()):
        assert run() == 2
        assert re.search(r"dataset\.json is not a file.*prepare_folder", capsys.readouterr().err)


def test_byte_order_marks_and_manifests_without_a_version(project, prepare):
    (project / "classes.txt").write_bytes("\ufeffcat\ncouch\ndog\n".encode())
    prepare()
    path = project / "prepared/dataset.json"
    content = json.loads(path.read_text())
    assert (content["classes"][0], content.pop("version")) == ("cat", 1)
    path.write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    assert check([str(path)]) == 0


@pytest.mark.parametrize(
    "option", ["--ignore-label=99999999999", "--name=a/b", "--output=classes.txt"]
)
def test_options(project, option, capsys, monkeypatch, prepare):
    monkeypatch.chdir(project)
    assert prepare(option) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_unlabeled_label_maps_are_named(project, caplog, capsys, prepare):
    for index in range(2):
        Image.fromarray(np.full((4, 4), 255, np.uint8)).save(project / f"train/labels/{index}.png")
    assert prepare() == 0
    first = project / "train/labels/0.png"
    assert f"train: 2 of 2 label maps are all unlabeled: {first}, " in caplog.text
    assert "val: " not in caplog.text
    assert check([str(project / "prepared"), "--json", str(project / "report.json")]) == 0
    assert f"pets_train: 2 of 2 label maps are all unlabeled: {first}, " in capsys.readouterr().out
    report, _ = json.loads((project / "report.json").read_text())
    assert report["unlabeled_files"][0] == str(first)


def test_report_that_cannot_be_written(project, capsys, prepare):
    prepare()
    assert check([str(project / "prepared"), "--json", str(project / "classes.txt/a.json")]) == 2
    assert "classes.txt" in capsys.readouterr().err
