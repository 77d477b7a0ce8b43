import json
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator as Detectron2Evaluator
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils.events import EventStorage
from PIL import Image

from escnet_d2.evaluation import SemSegEvaluator
from escnet_d2.evaluation.boundary import boundary_counts
from escnet_d2.evaluation.confusion import ClassCounts
from escnet_d2.evaluation.metrics import SCORES
from escnet_d2.structures import Vocabulary

# Three classes; the lower right quarter is unlabeled. Class 0: 5 of 8 pixels found, 3 called
# class 1. Class 1: 3 of 4 found, 1 called class 2. Class 2 is not in the ground truth.
TARGET = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 255, 255], [0, 0, 255, 255]])
PREDICTION = np.array([[0, 0, 1, 1], [0, 0, 1, 2], [0, 1, 2, 2], [1, 1, 0, 0]])
NAMES = ["cat", "dog", "sky"]
VOC_SAMPLE = (
    Path(__file__).resolve().parents[3]
    / "shared/data/voc_sample/VOCdevkit/VOC2012/SegmentationClass"
)


@pytest.fixture
def dataset():
    """Registers metadata under a fresh name."""

    def register(classes=NAMES, ignore_label=255, **metadata):
        name = f"evaluator_test_{uuid.uuid4().hex}"
        MetadataCatalog.get(name).set(
            stuff_classes=classes, ignore_label=ignore_label, evaluator_type="sem_seg", **metadata
        )
        return name

    return register


def write_target(folder, target, dtype=np.uint8, stem="image"):
    path = folder / f"{stem}.{'png' if dtype is np.uint8 else 'tif'}"
    Image.fromarray(target.astype(dtype)).save(path)
    return {"file_name": f"{stem}.jpg", "sem_seg_file_name": str(path)}


def scores_of(labels, num_classes):
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels), num_classes)
    return one_hot.permute(2, 0, 1) * 0.5 + 0.1


def test_hand_worked_image(tmp_path, dataset):
    evaluator = SemSegEvaluator(dataset(), output_dir=tmp_path / "out", seen_classes=["Cat", "sky"])
    image = write_target(tmp_path, TARGET)
    evaluator.process([image], [{"sem_seg": scores_of(PREDICTION, 3)}])
    scores = evaluator.evaluate()["sem_seg"]
    dog = 300 / 7
    expected = {
        "mIoU": (62.5 + dog) / 2,
        "mIoU_gt_or_pred": (62.5 + dog) / 3,
        "fwIoU": (62.5 * 8 + dog * 4) / 12,
        "mACC": (62.5 + 75) / 2,
        "pACC": 100 * 8 / 12,
        "mIoU_seen": 62.5,
        "mIoU_unseen": dog,
        "hIoU": 2 / (1 / 62.5 + 1 / dog),
        "num_classes": 2,
        "num_classes_gt_or_pred": 3,
        "num_images": 1,
        "IoU-cat": 62.5,
        "ACC-dog": 75,
        # The band is at least one pixel wide; in regions this thin it is all there is.
        "boundary_mIoU": (62.5 + dog) / 2,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert "IoU-sky" not in scores
    assert all(type(value) is float for value in scores.values())

    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["mIoU"] == scores["mIoU"]
    assert [record["seen"] for record in results["per_class"]] == [True, False, True]
    assert [record["pixels_pred"] for record in results["per_class"]] == [5, 6, 1]
    assert results["per_class"][2]["IoU"] is None
    stored = torch.load(tmp_path / "out" / "sem_seg_evaluation.pth", weights_only=True)
    assert stored["IoU-dog"] == pytest.approx(dog)
    assert np.isnan(stored["IoU-sky"])


@pytest.mark.parametrize("num_classes", [5, 300])
def test_agrees_with_detectron2(tmp_path, dataset, num_classes):
    name = dataset([f"class {index}" for index in range(num_classes)], ignore_label=65535)
    rng = np.random.default_rng(num_classes)
    images, outputs = [], []
    for index in range(3):
        # The last class is predicted, but never in the ground truth.
        target = rng.integers(0, num_classes - 1, (30, 40))
        noise = rng.integers(0, num_classes, target.shape)
        prediction = np.where(rng.random(target.shape) < 0.6, target, noise)
        target[rng.random(target.shape) < 0.1] = 65535
        images.append(write_target(tmp_path, target, np.uint16, f"image{index}"))
        outputs.append({"sem_seg": scores_of(prediction, num_classes)})
    DatasetCatalog.register(name, lambda: images)
    ours = SemSegEvaluator(name, output_dir=tmp_path / "ours")
    theirs = Detectron2Evaluator(
        name,
        distributed=False,
        output_dir=str(tmp_path / "theirs"),
        sem_seg_loading_fn=lambda path, dtype: np.asarray(Image.open(path)).astype(dtype),
    )
    for evaluator in (ours, theirs):
        evaluator.reset()
        evaluator.process(images[:2], outputs[:2])
        evaluator.process(images[2:], outputs[2:])
    actual, expected = ours.evaluate()["sem_seg"], theirs.evaluate()["sem_seg"]
    for key, value in expected.items():
        # Detectron2 computes boundaries in another way (docs/evaluation.md).
        if "oundary" not in key and not key.startswith("min("):
            assert (np.isnan(value) and key not in actual) or actual[key] == pytest.approx(value)
    assert actual["mIoU_gt_or_pred"] < actual["mIoU"]

    def stored(folder):
        return torch.load(tmp_path / folder / "sem_seg_evaluation.pth", weights_only=False)

    assert set(stored("theirs")) <= set(stored("ours"))
    encoded = [
        json.loads((tmp_path / folder / "sem_seg_predictions.json").read_text())
        for folder in ("ours", "theirs")
    ]
    assert encoded[0] == encoded[1]


@pytest.mark.parametrize(
    ("num_classes", "ignore_label", "dtype", "values"),
    [
        (3, 255, np.uint8, [255, 3, 7]),
        (459, 459, np.uint16, [459, 65535, 460]),
        (459, 65535, np.uint16, [459, 65535, 460]),
        (3, 255, np.int32, [-1, 100000, 255]),
        # The data set may call one of its own classes "ignore".
        (3, 1, np.uint8, [1, 255, 3]),
    ],
)
def test_unlabeled_values(tmp_path, dataset, num_classes, ignore_label, dtype, values):
    name = dataset([str(index) for index in range(num_classes)], ignore_label)
    evaluator = SemSegEvaluator(name, output_dir=None)
    target = np.full((6, 6), num_classes - 1)
    target[0, :3] = values
    prediction = np.full((6, 6), num_classes - 1)
    prediction[0, :3] = 0
    image = write_target(tmp_path, target, dtype)
    evaluator.process([image], [{"label_map": torch.from_numpy(prediction)}])
    scores = evaluator.evaluate()["sem_seg"]
    assert scores["mIoU"] == scores["mIoU_gt_or_pred"] == scores["boundary_mIoU"] == 100
    assert scores["num_classes_gt_or_pred"] == 1


def test_an_ignore_label_among_the_classes_is_logged(dataset, caplog):
    SemSegEvaluator(dataset(ignore_label=1), output_dir=None)
    assert "'dog' has no ground truth" in caplog.text


def test_label_map_and_sem_seg_agree(tmp_path, dataset):
    name = dataset()
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(0, 3, (2, 20, 30))
    image = write_target(tmp_path, target)
    written = []
    for index, output in enumerate(
        [
            {"sem_seg": scores_of(prediction, 3)},
            {"sem_seg": scores_of(prediction, 3).half()},
            {"label_map": torch.from_numpy(prediction), "score_map": torch.ones(20, 30)},
        ]
    ):
        evaluator = SemSegEvaluator(name, output_dir=tmp_path / str(index))
        evaluator.process([image], [output])
        evaluator.evaluate()
        files = sorted((tmp_path / str(index)).iterdir())
        written.append({path.name: path.read_bytes() for path in files if path.suffix != ".pth"})
    assert set(written[0]) == {
        "confusion_matrix.csv",
        "confusion_matrix.npy",
        "results.json",
        "results.md",
        "sem_seg_predictions.json",
    }
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("dilation", [0.02, 0.1])
def test_boundaries_are_summed_over_the_images(tmp_path, dataset, dilation):
    evaluator = SemSegEvaluator(dataset(), output_dir=tmp_path, boundary_dilation=dilation)
    counts = ClassCounts.zeros(3)
    for index in range(2):
        target = np.zeros((30, 40), dtype=np.int64)
        target[5:25, 10:35] = 1
        prediction = np.roll(target, 1 + 2 * index, axis=1)
        image = write_target(tmp_path, target, stem=f"image{index}")
        evaluator.process([image], [{"label_map": torch.from_numpy(prediction)}])
        counts += boundary_counts(prediction, target, num_classes=3, dilation=dilation)
    scores = evaluator.evaluate()["sem_seg"]
    expected = 100 * counts.intersection[:2] / counts.union[:2]
    assert [scores["BoundaryIoU-cat"], scores["BoundaryIoU-dog"]] == pytest.approx(expected)
    assert scores["boundary_mIoU"] == pytest.approx(expected.mean())
    for name in ("cat", "dog"):
        assert scores[f"BoundaryIoU-{name}"] < scores[f"IoU-{name}"]
        assert scores[f"min(IoU, B-Iou)-{name}"] == scores[f"BoundaryIoU-{name}"]
    dog = json.loads((tmp_path / "results.json").read_text())["per_class"][1]
    assert dog["pixels_gt"] == dog["pixels_pred"] == 2 * 20 * 25
    assert dog["boundary_IoU"] == scores["BoundaryIoU-dog"]


def test_reset_forgets(tmp_path, dataset):
    evaluator = SemSegEvaluator(dataset(), output_dir=None)
    image = write_target(tmp_path, TARGET)
    evaluator.process([image], [{"label_map": torch.from_numpy(PREDICTION)}])
    evaluator.reset()
    evaluator.process([image], [{"label_map": torch.from_numpy(np.where(TARGET > 2, 0, TARGET))}])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100


def test_only_unlabeled_pixels(tmp_path, dataset):
    evaluator = SemSegEvaluator(dataset(), output_dir=tmp_path / "out", seen_classes=NAMES)
    image = write_target(tmp_path, np.full((4, 4), 255))
    evaluator.process([image], [{"label_map": torch.from_numpy(PREDICTION)}])
    assert "mIoU" not in evaluator.evaluate()["sem_seg"]
    text = (tmp_path / "out" / "results.json").read_text()
    assert "NaN" not in text
    results = json.loads(text)
    assert {name for name in SCORES if results[name] is not None} == set(SCORES[-3:])
    assert results["num_classes"] == results["num_classes_gt_or_pred"] == 0


def test_works_with_detectron2_tools(tmp_path, dataset, caplog):
    class Model(torch.nn.Module):
        def forward(self, batch):
            return [{"sem_seg": scores_of(PREDICTION, 3)} for _ in batch]

    images = [write_target(tmp_path, TARGET, stem=f"image{index}") for index in range(7)]
    evaluator = SemSegEvaluator(dataset(), output_dir=tmp_path / "out")
    results = inference_on_dataset(Model(), [[image] for image in images], evaluator)
    assert results["sem_seg"]["num_images"] == 7
    with caplog.at_level("INFO", logger="detectron2"):
        print_csv_format(results)
    header = next(line for line in caplog.messages if line.startswith("copypaste: mIoU"))
    assert "IoU-cat" not in header
    with EventStorage() as storage:
        storage.put_scalars(**results["sem_seg"], smoothing_hint=False)


class TestErrors:
    @pytest.fixture
    def image(self, tmp_path):
        return write_target(tmp_path, TARGET)

    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ({"sem_seg": torch.zeros(4, 4, 4)}, "4 classes, but data set .* has 3"),
            ({"sem_seg": torch.zeros(4, 4)}, r"\(K, H, W\)"),
            ({"sem_seg": torch.zeros(3, 4, 5)}, "4 x 5.*4 x 4"),
            ({"sem_seg": torch.full((3, 4, 4), float("nan"))}, "NaN"),
            ({"sem_seg": torch.eye(4).log().mul(0)[None].repeat(3, 1, 1)}, "NaN"),
            ({"label_map": torch.zeros(5, 4, dtype=torch.int64)}, "5 x 4.*4 x 4"),
            ({"label_map": torch.full((4, 4), 3)}, r"0\.\.2, found \[3\]"),
            ({"label_map": torch.full((4, 4), -1)}, r"0\.\.2, found \[-1\]"),
            ({"label_map": torch.zeros(4, 4)}, "integers"),
            ({"panoptic_seg": None}, "panoptic_seg"),
        ],
    )
    def test_unfit_outputs(self, dataset, image, output, message):
        evaluator = SemSegEvaluator(dataset(), output_dir=None)
        with pytest.raises(ValueError, match=rf"image\.jpg.*image\.png: .*{message}"):
            evaluator.process([image], [output])

    def test_label_map_of_another_vocabulary(self, dataset, image):
        evaluator = SemSegEvaluator(dataset(), output_dir=None)
        image["vocabulary"] = Vocabulary.from_classes(["cat", "dog"])
        with pytest.raises(ValueError, match="2 classes, but data set .* has 3"):
            evaluator.process([image], [{"label_map": torch.from_numpy(PREDICTION % 2)}])

    def test_the_same_image_again(self, dataset, image):
        evaluator = SemSegEvaluator(dataset(), output_dir=None)
        output = {"label_map": torch.from_numpy(PREDICTION)}
        with pytest.raises(ValueError, match=r"image\.jpg was evaluated before"):
            evaluator.process([image, image], [output, output])

    def test_ground_truth_files(self, tmp_path, dataset, image):
        evaluator = SemSegEvaluator(dataset(), output_dir=None)
        output = {"label_map": torch.from_numpy(PREDICTION)}
        with pytest.raises(FileNotFoundError, match=r"absent\.png"):
            evaluator.process([{**image, "sem_seg_file_name": tmp_path / "absent.png"}], [output])
        with pytest.raises(ValueError, match=r"image\.jpg .* no sem_seg_file_name"):
            evaluator.process([{"file_name": "image.jpg"}], [output])

    def test_batch_lengths(self, dataset, image):
        with pytest.raises(ValueError, match="0 outputs for 1 images"):
            SemSegEvaluator(dataset(), output_dir=None).process([image], [])

    def test_nothing_evaluated(self, dataset):
        with pytest.raises(RuntimeError, match="No image"):
            SemSegEvaluator(dataset(), output_dir=None).evaluate()

    def test_data_sets(self, dataset):
        with pytest.raises(ValueError, match="'unheard_of' has no stuff_classes"):
            SemSegEvaluator("unheard_of", output_dir=None)
        with pytest.raises(ValueError, match="repeats classes: cat"):
            SemSegEvaluator(dataset(["cat", "dog", "cat"]), output_dir=None)

    @pytest.mark.parametrize("dilation", [0.0, -0.1, 1.5])
    def test_dilation(self, dataset, dilation):
        with pytest.raises(ValueError, match="boundary_dilation"):
            SemSegEvaluator(dataset(), output_dir=None, boundary_dilation=dilation)

    def test_missing_images_are_logged(self, dataset, image, caplog):
        evaluator = SemSegEvaluator(dataset(expected_images=2), output_dir=None)
        evaluator.process([image], [{"label_map": torch.from_numpy(PREDICTION)}])
        evaluator.evaluate()
        assert "should have 2 images, 1 were evaluated" in caplog.text


@pytest.mark.skipif(not VOC_SAMPLE.is_dir(), reason="no sample data beside the repository")
def test_palette_labels_of_pascal_voc(dataset):
    evaluator = SemSegEvaluator(dataset([str(index) for index in range(21)]), output_dir=None)
    for path in sorted(VOC_SAMPLE.glob("*.png")):
        labels = torch.from_numpy(np.array(Image.open(path)).astype(np.int64))
        image = {"file_name": path.stem, "sem_seg_file_name": str(path)}
        evaluator.process([image], [{"label_map": labels.where(labels < 21, 7)}])
    scores = evaluator.evaluate()["sem_seg"]
    assert scores["mIoU"] == scores["boundary_mIoU"] == scores["pACC"] == 100
    assert scores["num_classes"] == scores["num_classes_gt_or_pred"] > 3


def test_predictions_use_the_data_sets_own_ids(tmp_path, dataset):
    name = dataset(stuff_dataset_id_to_contiguous_id={92: 0, 95: 1, 200: 2})
    evaluator = SemSegEvaluator(name, output_dir=tmp_path / "out")
    image = write_target(tmp_path, TARGET)
    evaluator.process([image], [{"label_map": torch.from_numpy(PREDICTION)}])
    evaluator.evaluate()
    records = json.loads((tmp_path / "out" / "sem_seg_predictions.json").read_text())
    assert Counter(record["category_id"] for record in records) == Counter([92, 95, 200])
