import logging

import numpy as np
import pytest
import torch
from PIL import Image

import escnet_d2
from escnet_d2.data import SemanticDatasetMapper, register_folder_dataset
from escnet_d2.engine.model_description import describe_model
from escnet_d2.structures import Segmentation, Vocabulary

SMALL = ("MODEL.CLIP.RESOLUTION", 64, "INPUT.MIN_SIZE_TEST", 64, "MODEL.ESCNET.NUM_BLOCKS", 1)
NAMES = "sky, grass|lawn, dog"


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    return escnet_d2.OpenVocabPredictor("escnet_tiny", vocabulary=NAMES, opts=SMALL)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def assert_same(left, right):
    assert left.class_names == right.class_names
    assert np.array_equal(left.labels, right.labels)
    assert np.allclose(left.scores, right.scores, atol=1e-5)


def test_result_has_the_size_of_the_image(predictor, photo):
    result = predictor(photo)
    assert isinstance(result, Segmentation)
    assert result.class_names == predictor.class_names == ("sky", "grass", "dog")
    assert (result.labels.shape, result.labels.dtype) == ((40, 56), np.int32)
    assert (result.scores.shape, result.scores.dtype) == ((40, 56), np.float32)
    assert 0 <= result.labels.min() <= result.labels.max() < 3
    assert 0 <= result.scores.min() <= result.scores.max() <= 1
    assert not predictor.model.training


def test_predictions_are_those_of_the_model_on_what_the_test_mapper_reads(
    predictor, photo, tmp_path
):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    name = "predictor_test_data"
    register_folder_dataset(name, tmp_path, tmp_path, ["sky", "grass, lawn", "dog"])
    mapper = SemanticDatasetMapper(predictor.cfg, is_train=False, dataset_names=[name])
    sample = mapper({"file_name": str(tmp_path / "photo.png"), "dataset_name": name})
    with torch.no_grad():
        expected = predictor.model([sample])[0]
    result = predictor(tmp_path / "photo.png")
    assert np.array_equal(result.labels, expected["label_map"].numpy())
    assert np.allclose(result.scores, expected["score_map"].numpy(), atol=1e-6)


def test_batch_equals_one_by_one(predictor, photo, monkeypatch):
    images = [photo, photo[:20, ::-1], Image.fromarray(photo[::2])]
    results, singles = predictor.predict_batch(images), [predictor(image) for image in images]
    assert predictor.predict_batch([]) == []
    vocabulary = predictor.resolve_vocabulary(NAMES)
    monkeypatch.setattr(predictor.model, "label_map_only", False)
    for image, result, single in zip(images, results, singles):
        assert result.class_names == single.class_names
        assert np.allclose(result.scores, single.scores, atol=1e-6)
        with torch.no_grad():
            scores = predictor.model([predictor.model_input(image, vocabulary)])[0]["sem_seg"]
        # A batch differs in the last bits, which decide between classes that score the same.
        second, best = scores.sort(dim=0).values[-2:].numpy()
        decided = best - second > 1e-6
        assert decided.mean() > 0.999
        assert np.array_equal(result.labels[decided], single.labels[decided])


def test_kinds_of_images(predictor, photo, tmp_path):
    expected = predictor(photo)
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    deep = photo.astype(np.uint16) * 257
    for image in (path, str(path), Image.fromarray(photo), deep):
        assert_same(predictor(image), expected)
    gray = photo[:, :, 0]
    assert_same(predictor(gray), predictor(np.dstack([gray] * 3)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_odd_sizes(predictor, shape):
    assert predictor(np.zeros((*shape, 3), np.uint8)).labels.shape == shape


@pytest.mark.parametrize(
    "vocabulary", ["cat, tree", ["cat", "tree"], Vocabulary.from_classes(["cat", "tree"])]
)
def test_vocabulary_of_a_call(predictor, photo, vocabulary):
    result = predictor(photo, vocabulary)
    assert result.class_names == ("cat", "tree")
    assert predictor(photo).class_names == ("sky", "grass", "dog")


def test_neither_weights_nor_vocabulary(photo, caplog):
    predictor = escnet_d2.OpenVocabPredictor("escnet_tiny", opts=SMALL)
    assert "the head is untrained" in caplog.text
    assert predictor.class_names == ()
    with pytest.raises(ValueError, match="Give a vocabulary"):
        predictor(photo)


@pytest.mark.parametrize("mode", ["words", "threshold"])
def test_background_of_the_configuration(photo, mode):
    opts = (*SMALL, "VOCABULARY.BACKGROUND", mode, "VOCABULARY.BACKGROUND_THRESHOLD", 1.0)
    predictor = escnet_d2.OpenVocabPredictor("escnet_tiny", vocabulary=NAMES, opts=opts)
    assert predictor.class_names == ("sky", "grass", "dog", "background")
    if mode == "threshold":
        assert (predictor(photo).labels == 3).all()


def test_weights_win_over_the_configuration(predictor, photo, tmp_path, caplog):
    torch.save({"model": predictor.model.state_dict()}, tmp_path / "trained.pth")
    torch.manual_seed(1)
    opts = (*SMALL, "MODEL.WEIGHTS", "missing.pth")
    with caplog.at_level(logging.WARNING):
        other = escnet_d2.OpenVocabPredictor(
            "escnet_tiny", weights=tmp_path / "trained.pth", vocabulary=NAMES, opts=opts
        )
    assert "untrained" not in caplog.text
    assert_same(other(photo), predictor(photo))


def test_clip_alone_is_not_called_untrained(caplog):
    opts = ("MODEL.DEVICE", "cpu")
    shipped = escnet_d2.OpenVocabPredictor("zero_shot_clip_shapes", opts=opts)
    assert "untrained" not in caplog.text
    description = describe_model(shipped.cfg)["weights"]
    assert description["trained"]
    assert "clip_shapes" in description["description"]
    random = escnet_d2.OpenVocabPredictor(
        "zero_shot_clip_shapes", opts=(*opts, "MODEL.CLIP.WEIGHTS", "random")
    )
    assert "untrained" in caplog.text
    assert not describe_model(random.cfg)["weights"]["trained"]


def test_half_precision(predictor, photo):
    opts = (*SMALL, "TEST.DTYPE", "bfloat16")
    half = escnet_d2.OpenVocabPredictor("escnet_tiny", vocabulary=NAMES, opts=opts)
    half.model.load_state_dict(predictor.model.state_dict())
    assert np.allclose(half(photo).scores, predictor(photo).scores, atol=0.05)
