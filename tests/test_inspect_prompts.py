"""Pictures of the method: what they are made of, and the program."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from prompt_picture import draw_prompt_picture, inspect_image

from escnet_d2.engine import OpenVocabPredictor

CLASSES = "grass, water, red circle, a dog"


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.fixture
def predictor(tiny_cfg):
    return OpenVocabPredictor(tiny_cfg)


def test_blocks_show_what_the_head_computed(predictor, photo):
    vocabulary = predictor.resolve_vocabulary(CLASSES)
    names = ["a dog", "grass"]
    inspection = inspect_image(predictor, photo, vocabulary, classes=names)
    assert inspection.class_names == ("a dog", "grass")
    assert inspection.segmentation.class_names == tuple(CLASSES.split(", "))
    assert len(inspection.blocks) == 2
    np.testing.assert_array_equal(inspection.image, photo)
    np.testing.assert_array_equal(
        inspection.segmentation.labels, predictor(photo, vocabulary).labels
    )
    with torch.inference_mode():
        output = predictor.model.inspect(predictor.model_input(photo, vocabulary))
    for number, block in enumerate(inspection.blocks):
        rows = [3, 0]
        np.testing.assert_array_equal(block.class_map, output.class_maps[number][0, rows])
        np.testing.assert_array_equal(block.regions, output.prompts[number].regions[0, rows])
        # Relative to the likeliest of all four classes, of which two are shown.
        softmax = output.class_maps[number][0].softmax(dim=0)
        relative = softmax[rows] / softmax.amax(dim=0)
        np.testing.assert_allclose(block.probability, relative, atol=1e-5)
        for index in range(2):
            foreground = block.probability[index] >= 0.8
            np.testing.assert_array_equal(block.regions[index] >= 0, foreground)
            assert (block.masks[index][~foreground] == 0).all()


def test_the_largest_classes_are_chosen(predictor, photo):
    vocabulary = predictor.resolve_vocabulary(CLASSES)
    inspection = inspect_image(predictor, photo, vocabulary, max_classes=1)
    labels = predictor(photo, vocabulary).labels
    largest = np.bincount(labels.ravel(), minlength=4).argmax()
    assert inspection.class_names == (vocabulary.class_names[largest],)


def test_pruned_classes_are_left_out_and_named(tiny_cfg, photo, caplog):
    tiny_cfg.MODEL.ESCNET.MAX_CLASSES = 2
    predictor = OpenVocabPredictor(tiny_cfg)
    vocabulary = predictor.resolve_vocabulary(CLASSES)
    inspection = inspect_image(predictor, photo, vocabulary, classes=CLASSES.split(", "))
    assert len(inspection.class_names) == 2
    left_out = [name for name in CLASSES.split(", ") if name not in inspection.class_names]
    assert "2 likeliest entries (MODEL.ESCNET.MAX_CLASSES, VOTES_KEPT): " in caplog.text
    assert f"VOTES_KEPT): {', '.join(left_out)}" in caplog.text


def test_what_cannot_be_shown_is_refused(tiny_cfg, predictor, photo):
    vocabulary = predictor.resolve_vocabulary(CLASSES)
    with pytest.raises(ValueError, match="no class 'cat'; it has grass, water"):
        inspect_image(predictor, photo, vocabulary, classes=["cat"])
    tiny_cfg.MODEL.ESCNET.USE_SAM = False
    with pytest.raises(ValueError, match="USE_SAM is False"):
        inspect_image(OpenVocabPredictor(tiny_cfg), photo, vocabulary)
    tiny_cfg.MODEL.META_ARCHITECTURE = "ZeroShotCLIP"
    with pytest.raises(ValueError, match="Only ESCNet has pseudo prompts, .* is ZeroShotCLIP"):
        inspect_image(OpenVocabPredictor(tiny_cfg), photo, vocabulary)


def test_a_picture_has_a_row_for_each_class_and_fits_a_screen(predictor, photo):
    vocabulary = predictor.resolve_vocabulary(CLASSES)
    pictures = [
        draw_prompt_picture(inspect_image(predictor, photo, vocabulary, classes=names))
        for names in (["grass"], CLASSES.split(", "))
    ]
    for picture in pictures:
        assert picture.mode == "RGB"
        assert picture.width <= 1600
        assert picture.height <= 900
        assert np.asarray(picture).std() > 10
    # The rows make the picture higher; beside them are image and segmentation, above a caption.
    assert pictures[1].height > pictures[0].height
    image = np.asarray(pictures[0].crop((0, 0, 300, 250)))
    assert (image != 255).any(axis=2).mean() > 0.3


def test_the_program_writes_one_picture_per_image(tmp_path, photo, run_program):
    for folder, name in (("photos", "a"), ("photos", "b"), ("more", "a")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(photo).save(tmp_path / folder / f"{name}.png")

    def run(*inputs):
        return run_program(
            *("demo/inspect_prompts.py", "--config-file", "escnet_tiny", "--allow-untrained"),
            *("--vocabulary", CLASSES, "--output", "out", "--input", *inputs),
            cwd=tmp_path,
        )

    done = run("photos")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a_prompts.png", "b_prompts.png"}
    # Equal names get a folder each, and a damaged file costs its own picture only.
    (tmp_path / "more" / "b.png").write_bytes(b"no image")
    mixed = run("photos", "more")
    assert mixed.returncode == 1, mixed.stderr
    assert "Failed: more/b.png" in mixed.stderr
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").glob("*/*.png")}
    assert found == {"photos/a_prompts.png", "photos/b_prompts.png", "more/a_prompts.png"}
