import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from escnet_d2.data.class_lists import read_class_list
from escnet_d2.structures.label_io import read_label_map

TOOL = Path(__file__).resolve().parents[2] / "datasets" / "prepare_benchmarks.py"


def run_tool(*arguments):
    specification = importlib.util.spec_from_file_location("prepare_benchmarks", TOOL)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    return tool.main([str(argument) for argument in arguments])


def put_labels(folder, name, values, dtype=np.uint8):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], dtype)).save(folder / f"{name}.png")


def test_coco_stuff(tmp_path, capsys):
    # All ids that COCO-Stuff knows; its unused ids and 255 are unlabelled.
    put_labels(tmp_path / "coco-stuff/annotations/val2017", "a", [*range(182), 255])
    assert run_tool("coco_stuff", "--root", tmp_path) == 1
    labels = read_label_map(tmp_path / "coco-stuff/annotations_detectron2/val2017/a.png")[0]
    assert np.flatnonzero(labels == 255).tolist() == [
        *(11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90),
        182,
    ]
    assert labels[labels != 255].tolist() == list(range(171))
    names = read_class_list("coco")
    # Ids of COCO's own category list, less one: 1 person, 13 stop sign, 92 banner, 182 wood.
    assert [names[labels[index - 1]] for index in (1, 13, 92, 182)] == [
        "person",
        "stop sign",
        "banner",
        "wood",
    ]
    # The images are not there, which the closing report says.
    assert "coco_2017_test_stuff_all_sem_seg: missing: " in capsys.readouterr().out


def test_ade20k_150(tmp_path):
    put_labels(tmp_path / "ADEChallengeData2016/annotations/validation", "a", [0, 1, 150])
    run_tool("ade20k_150", "--root", tmp_path, "--num-workers", 1)
    folder = tmp_path / "ADEChallengeData2016/annotations_detectron2/validation"
    assert read_label_map(folder / "a.png").tolist() == [[255, 0, 149]]


@pytest.mark.parametrize("source", ["SegmentationClass", "SegmentationClassAug"])
def test_voc(tmp_path, source):
    folder = tmp_path / "VOCdevkit/VOC2012"
    put_labels(folder / source, "a", [0, 1, 20, 255])
    put_labels(folder / source, "of_another_split", [0])
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/val.txt").write_text("a\n")
    run_tool("voc", "--root", tmp_path)
    for target, expected in (
        ("annotations_detectron2/val", [255, 0, 19, 255]),
        ("annotations_detectron2_bg/val", [20, 0, 19, 255]),
    ):
        assert [file.name for file in (folder / target).iterdir()] == ["a.png"]
        assert read_label_map(folder / target / "a.png").tolist() == [expected]


def test_real_samples(shared_data, tmp_path, capsys):
    for sample in ("ade20k_sample", "voc_sample"):
        shutil.copytree(shared_data / sample, tmp_path, dirs_exist_ok=True)
    stems = sorted(path.stem for path in tmp_path.glob("VOCdevkit/VOC2012/SegmentationClass/*"))
    split = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    split.chmod(0o644)
    split.write_text("\n".join(stems))
    assert run_tool("ade20k_150", "voc", "--root", tmp_path) == 1
    output = capsys.readouterr().out
    assert "ade20k_150_test_sem_seg: 3 labelled images, expected 2000" in output
    assert "voc_2012_test_sem_seg: 3 labelled images, expected 1449" in output


def test_missing_and_wrong_labels(tmp_path, capsys):
    for benchmark in ("coco_stuff", "ade20k_150", "voc"):
        assert run_tool(benchmark, "--root", tmp_path) == 1
        assert str(tmp_path) in capsys.readouterr().err
    put_labels(tmp_path / "ADEChallengeData2016/annotations/validation", "a", [300], np.uint16)
    assert run_tool("ade20k_150", "--root", tmp_path) == 1
    assert "a.png has values outside 0..255" in capsys.readouterr().err


def test_check_lists_all_benchmarks(tmp_path, capsys):
    assert run_tool("--check", "--root", tmp_path) == 1
    assert len(capsys.readouterr().out.splitlines()) == 8


@pytest.mark.parametrize("arguments", [[], ["ade20k_847"]])
def test_unknown_benchmark(arguments, capsys):
    with pytest.raises(SystemExit):
        run_tool(*arguments)
    assert "any of coco_stuff, ade20k_150, voc" in capsys.readouterr().err
