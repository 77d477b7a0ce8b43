from __future__ import annotations

import os

import pytest
from PIL import Image

from escnet_d2.io import IMAGE_SUFFIXES
from escnet_d2.outputs import find_images


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder of empty files: finding does not read what it knows by suffix."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "photos/img10.jpg",
        "photos/img2.JPG",
        "photos/notes.txt",
        "photos/._img2.jpg",
        "photos/sub/img1.png",
        "photos/.cache/x.png",
        "other/img2.jpg",
        "far/photos/img2.png",
        "odd [1]/a.png",
        "empty/readme.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(*inputs, **options):
    return [image.name for image in find_images(inputs, **options)[0]]


def test_a_folder_in_natural_order_without_what_is_no_image(tree):
    images, num_ignored = find_images(["photos"])
    assert [str(image.path) for image in images] == ["photos/img2.JPG", "photos/img10.jpg"]
    assert [image.name for image in images] == ["img2", "img10"]
    # notes.txt and the hidden file.
    assert num_ignored == 2


def test_recursive_mirrors_the_tree(tree):
    assert names("photos", recursive=True) == ["img2", "img10", "sub/img1"]
    assert names("photos/", "photos/sub", recursive=True) == ["img2", "img10", "sub/img1"]


def test_globs_expand_here(tree):
    assert names("photos/*.jpg") == ["img10"]
    assert names("photos/*") == ["img2", "img10"]
    assert names("photos/**/*.png") == ["sub/img1"]
    assert names(str(tree / "*" / "img2.*")) == ["other/img2", "photos/img2"]
    # The folder exists as it is spelt, so its brackets are no pattern.
    assert names("odd [1]/*.png") == ["a"]
    assert names("odd [1]") == ["a"]


def test_equal_names_from_several_inputs(tree):
    expected = ["other/img2", "photos/img2", "photos/img10"]
    assert names("photos", "other") == names("other", "photos") == expected
    # Both folders are called photos.
    both = names("photos", "far/photos")
    assert sorted(both) == ["photos-2/img10", "photos-2/img2", "photos/img2"]
    assert both == names("photos", "far/photos")
    assert names("photos/img2.JPG", "other/img2.jpg") == ["other/img2", "photos/img2"]


def test_equal_names_but_for_the_suffix(tree):
    for name in ("a.jpg", "a.png", "a.png.png", "b.v1.png", "b.v2.png"):
        (tree / "empty" / name).touch()
    assert sorted(names("empty")) == ["a.jpg", "a.png", "a.png.png", "b.v1", "b.v2"]


def test_an_image_reached_twice_counts_once(tree):
    assert names("photos", "photos/img2.JPG", "photos/*.JPG", str(tree / "photos")) == [
        "img2",
        "img10",
    ]


def test_own_outputs_are_no_input(tree):
    assert names("photos", recursive=True, exclude=[tree / "photos" / "sub"]) == ["img2", "img10"]
    assert names("photos/**", exclude=[tree / "photos" / "sub"]) == ["img2", "img10"]
    # Unless named outright.
    assert names("photos/sub/img1.png", exclude=[tree / "photos" / "sub"]) == ["img1"]


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("photos/*.bmp", FileNotFoundError, r"glob 'photos/\*.bmp'"),
        ("nowhere/*.jpg", FileNotFoundError, "glob"),
        ("empty", ValueError, "No images in 'empty' .*--recursive"),
        ("photos/*.txt", ValueError, "No images"),
        ("", ValueError, "empty"),
    ],
)
def test_wrong_inputs(tree, text, error, match):
    with pytest.raises(error, match=match):
        find_images([text])


def test_a_named_image_may_have_any_suffix(tree):
    Image.new("RGB", (2, 2)).save(tree / "scan.dat", format="PNG")
    assert names("scan.dat") == ["scan"]


@pytest.mark.skipif(os.name == "nt", reason="file names are bytes")
def test_file_names_that_are_not_utf8(tree):
    odd = os.fsdecode(b"photos/caf\xe9.jpg")
    try:
        (tree / odd).touch()
    except OSError:
        pytest.skip("the file system has UTF-8 names only")
    assert os.fsdecode(b"caf\xe9") in names("photos")


def test_ignored_files_are_named_by_suffix(tree, caplog):
    for name in ("a.heic", "b.HEIC", "c.heic"):
        (tree / "photos" / name).touch()
    if ".heic" in IMAGE_SUFFIXES:
        pytest.skip("pillow-heif is installed")
    assert find_images(["photos"])[1] == 5
    assert "4 files ignored: .heic, .txt (pip install pillow-heif to read HEIC)" in caplog.text
    (tree / "photos" / "x.heic").write_text("no image")
    with pytest.raises(ValueError, match=r"x\.heic is not an image \(pip install pillow-heif"):
        find_images(["photos/x.heic"])


def test_a_pipe_is_not_opened(tree):
    os.mkfifo(tree / "photos" / "pipe")
    os.mkfifo(tree / "photos" / "pipe.jpg")
    with pytest.raises(ValueError, match="pipe is not an image: it is not a regular file"):
        find_images(["photos/pipe"])
    # It is reported when it is its turn.
    assert "pipe" in names("photos")
