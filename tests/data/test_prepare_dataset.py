"""The command: what it says of missing and wrong archives, and how it goes on after a stop."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from escnet_d2.data.prepare import PREPARATIONS, LabelWriter
from escnet_d2.io import read_label_map, write_text

DOCS = Path(__file__).resolve().parents[2] / "docs"
ADE = "ADEChallengeData2016"
SOURCE, TARGET = f"{ADE}/annotations/validation", f"{ADE}/annotations_detectron2/validation"
VOC = "VOCdevkit/VOC2012"


@pytest.mark.parametrize("workers", [0, 2])
def test_runs_go_on_where_they_stopped(tmp_path, workers, put_image):
    for index in range(5):
        put_image(tmp_path / SOURCE / f"{index}.png", [[index]])
    put_image(tmp_path / SOURCE / "3.png", [[[1, 2, 3]]])  # Colored, so it stops the run.
    writer = LabelWriter(tmp_path, num_workers=workers)
    with pytest.raises(ValueError, match=r"3\.png has mode RGB"):
        PREPARATIONS["ade20k_150"].run(writer)
    put_image(tmp_path / SOURCE / "3.png", [[3]])
    # A label map that exists is done, even if it says something else.
    put_image(tmp_path / TARGET / "0.png", [[77]])
    PREPARATIONS["ade20k_150"].run(writer)
    labels = [read_label_map(tmp_path / TARGET / f"{i}.png").item() for i in range(5)]
    assert labels == [77, 0, 1, 2, 3]
    assert len(list((tmp_path / TARGET).iterdir())) == 5


def test_force_writes_again(tmp_path, run_tool, put_image):
    put_image(tmp_path / SOURCE / "0.png", [[1]])
    put_image(tmp_path / TARGET / "0.png", [[77]])
    run_tool("prepare_dataset", "ade20k_150", "--root", tmp_path, "--force")
    assert read_label_map(tmp_path / TARGET / "0.png").item() == 0


def test_missing_archives_are_named_with_their_address(tmp_path, capsys, run_tool):
    for name, preparation in PREPARATIONS.items():
        assert run_tool("prepare_dataset", name, "--root", tmp_path) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"{name}: error: ")
        assert any(archive.url in error for archive in preparation.archives)
        assert str(tmp_path) in error


def test_all_leaves_out_what_is_not_there(tmp_path, capsys, run_tool, put_image):
    put_image(tmp_path / SOURCE / "0.png", [[1]])
    # 1 of 2,000 images.
    assert run_tool("prepare_dataset", "all", "--root", tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.err.count("skipped") == len(PREPARATIONS) - 1
    assert (tmp_path / TARGET / "0.png").is_file()


def test_incomplete_data_sets_are_reported_with_counts(tmp_path, shared_data, capsys, run_tool):
    shutil.copytree(shared_data / "ade20k_sample", tmp_path, dirs_exist_ok=True)
    assert run_tool("prepare_dataset", "ade20k_150", "--root", tmp_path) == 1
    expected = "ade20k_150_test_sem_seg: 3 labeled images, expected 2000"
    assert expected in capsys.readouterr().out


RGB = [[[1, 2, 3]]]
FULL_VALIDATION = "ADE20K_2021_17_01/images/ADE/validation/ADE_val_00000001"
# Preparation; folders and label maps that are there, number of images in VOC's list; the message.
WRONG_FILES = {
    "full ADE20K": ("ade20k_150", {"ADE20K_2021_17_01": None}, 0, "17_01 is another release"),
    "ADE20K-150": ("ade20k_847", {ADE: None}, 0, "ADEChallengeData2016 is another release"),
    "value 151": ("ade20k_150", {f"{SOURCE}/a.png": [[151]]}, 0, "a.png has the value 151"),
    "colors": ("ade20k_150", {f"{SOURCE}/a.png": RGB}, 0, "gray, with 0 to 150; the full"),
    "gray": (
        "ade20k_847",
        {f"{FULL_VALIDATION}.jpg": RGB, f"{FULL_VALIDATION}_seg.png": [[1]]},
        0,
        "mode L, where objects are coded by color",
    ),
    "no VOCdevkit": ("voc", {"VOC2012/ImageSets": None}, 0, "VOC2012 belongs at"),
    "two VOCdevkits": ("voc", {f"VOCdevkit/{VOC}/ImageSets": None}, 0, "VOC2012 belongs at"),
    "VOC 2010": ("voc", {"VOCdevkit/VOC2010": None}, 0, "VOC2010 is another release"),
    "VOC 2010 as 2012": ("voc", {}, 964, "lists 964 images: this is VOC 2010"),
    "objects": ("voc", {f"{VOC}/SegmentationClass/0.png": [[21]]}, 1, "numbers objects"),
    "VOC's colors": ("voc", {f"{VOC}/SegmentationClass/0.png": RGB}, 1, "lost the class indices"),
    "VOC 2012": ("pascal_context_59", {VOC: None}, 0, "VOC2012 is another release"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_files_of_other_releases_are_told_apart(tmp_path, capsys, case, run_tool, put_image):
    name, files, voc_images, message = WRONG_FILES[case]
    for file, values in files.items():
        if values is None:
            (tmp_path / file).mkdir(parents=True)
        else:
            put_image(tmp_path / file, values)
    if voc_images:
        stems = "\n".join(f"{index}" for index in range(voc_images))
        write_text(tmp_path / VOC / "ImageSets/Segmentation/val.txt", stems)
    assert run_tool("prepare_dataset", name, "--root", tmp_path) == 1
    assert message in capsys.readouterr().err


def test_check_reads_what_was_written(tmp_path, capsys, run_tool, put_image):
    put_image(tmp_path / TARGET / "a.png", [[0, 200]])
    put_image(tmp_path / ADE / "images/validation/a.jpg", np.zeros((1, 2, 3)))
    put_image(tmp_path / TARGET / "b.png", [[0]])
    put_image(tmp_path / ADE / "images/validation/b.jpg", np.zeros((2, 2, 3)))
    put_image(tmp_path / TARGET / "lone.png", [[0]])
    assert run_tool("prepare_dataset", "--check", "ade20k_150", "--root", tmp_path) == 1
    output = capsys.readouterr().out
    for part in (
        "| ade20k_150_test_sem_seg | 2        | 2000",
        "2 labeled images, expected 2000",
        "a.png has the value(s) 200",
        "b.jpg is 2 x 2 pixels, but its label map",
        "lone.png has no image",
    ):
        assert part in output


def test_check_without_names_reads_what_is_prepared(tmp_path, capsys, run_tool, put_image):
    assert run_tool("prepare_dataset", "--check", "--root", tmp_path) == 1
    assert f"Nothing is prepared in {tmp_path}" in capsys.readouterr().err
    put_image(tmp_path / TARGET / "a.png", [[0, 1]])
    put_image(tmp_path / ADE / "images/validation/a.jpg", np.zeros((1, 2, 3)))
    # One image of 2,000: the data set that is there counts, those that are not do not.
    assert run_tool("prepare_dataset", "--check", "--root", tmp_path) == 1
    captured = capsys.readouterr()
    assert "voc_2012_test_sem_seg: skipped, not prepared" in captured.err
    assert "1 labeled images, expected 2000" in captured.out
    assert "does not exist" not in captured.out


def test_list_names_every_archive(tmp_path, capsys, run_tool):
    assert run_tool("prepare_dataset", "--list", "--root", tmp_path) == 0
    output = capsys.readouterr().out
    for preparation in PREPARATIONS.values():
        for archive in preparation.archives:
            assert archive.url in output
            assert archive.terms in output


def test_documents_name_every_preparation_and_data_set():
    text = (DOCS / "datasets.md").read_text(encoding="utf-8")
    for name, preparation in PREPARATIONS.items():
        assert f"`{name}`" in text
        for dataset in preparation.datasets:
            assert f"`{dataset}`" in text
