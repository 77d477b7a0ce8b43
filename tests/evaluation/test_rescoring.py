"""Prediction files of other programs get the scores that the predictions would have got."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as coco_mask

from escnet_d2.evaluation import SemSegEvaluator
from escnet_d2.evaluation.predictions import decode_label_map, encode_label_map
from escnet_d2.evaluation.rescoring import rescore_predictions

NAME = "rescoring_test"
IDS = {7: 0, 3: 1, 9: 2}


@pytest.fixture
def dataset(tmp_path):
    """Three images in two folders, two of which share a file name."""
    generator = np.random.default_rng(0)
    samples = []
    for folder, file in (("a", "x"), ("b", "x"), ("b", "y")):
        # Blocks, so that bands of different widths differ.
        target = generator.integers(0, 4, (3, 5)).repeat(24, axis=0).repeat(18, axis=1)
        target = target.astype(np.uint8)
        target[target == 3] = 255
        path = tmp_path / folder / f"{file}_labels.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(target).save(path)
        image = str(tmp_path / folder / f"{file}.jpg")
        samples.append({"file_name": image, "sem_seg_file_name": str(path)})
    DatasetCatalog.register(NAME, lambda: samples)
    MetadataCatalog.get(NAME).set(stuff_classes=["cat", "dog", "sky"], ignore_label=255)
    return samples


def predictions(samples):
    generator = np.random.default_rng(1)
    return [generator.integers(0, 3, (72, 90)) for _ in samples]


def write(tmp_path, records):
    path = tmp_path / "sem_seg_predictions.json"
    path.write_text(json.dumps(records))
    return path


def test_scores_are_those_of_the_label_maps(dataset, tmp_path):
    maps = predictions(dataset)
    evaluator = SemSegEvaluator(NAME, output_dir=None)
    evaluator.process(dataset, [{"label_map": labels} for labels in maps])
    expected = evaluator.evaluate()["sem_seg"]
    # Of another machine, in another order.
    records = [
        record
        for sample, labels in reversed(list(zip(dataset, maps)))
        for record in encode_label_map(
            labels, sample["file_name"].replace(str(tmp_path), "/elsewhere/images")
        )
    ]
    path = write(tmp_path, records)
    got = rescore_predictions(path, NAME, output_dir=tmp_path / "out")
    assert got == dict(expected)
    assert (tmp_path / "out/results.json").is_file()
    assert not (tmp_path / "out/sem_seg_predictions.json").exists()


def test_ids_of_the_data_set_become_indices(dataset, tmp_path):
    def score(category_ids=None):
        records = [
            record
            for sample, labels in zip(dataset, predictions(dataset))
            for record in encode_label_map(labels, sample["file_name"], category_ids=category_ids)
        ]
        return rescore_predictions(write(tmp_path, records), NAME)

    plain = score()
    MetadataCatalog.get(NAME).stuff_dataset_id_to_contiguous_id = IDS
    assert score({index: category for category, index in IDS.items()}) == plain


def test_faults_are_named(dataset, tmp_path):
    records = [
        [*encode_label_map(m, s["file_name"])] for s, m in zip(dataset, predictions(dataset))
    ]
    flat = [record for image in records for record in image]
    with pytest.raises(ValueError, match=r"no prediction for 1 of 3 images .*y\.jpg"):
        rescore_predictions(write(tmp_path, records[0] + records[1]), NAME)
    incomplete = write(tmp_path, records[0] + records[1])
    assert rescore_predictions(incomplete, NAME, allow_incomplete=True)["num_images"] == 2
    with pytest.raises(ValueError, match=r"y\.jpg: \d+ of 6480 pixels have no class"):
        rescore_predictions(write(tmp_path, flat[:-1]), NAME)
    with pytest.raises(ValueError, match=r"json: x\.jpg fits 2 images"):
        renamed = [{**flat[0], "file_name": "x.jpg"}]
        rescore_predictions(write(tmp_path, renamed), NAME)
    with pytest.raises(ValueError, match=r"w\.jpg fits 0 images"):
        rescore_predictions(write(tmp_path, [{**flat[0], "file_name": "w.jpg"}]), NAME)
    with pytest.raises(ValueError, match=r"has two predictions of .*y\.jpg"):
        again = [{**record, "file_name": "/elsewhere/y.jpg"} for record in records[2]]
        rescore_predictions(write(tmp_path, flat + again), NAME)
    with pytest.raises(ValueError, match="is not a list of COCO predictions"):
        rescore_predictions(write(tmp_path, {"a": 1}), NAME)
    with pytest.raises(ValueError, match=r"y\.jpg is not COCO's run lengths: .*segmentation"):
        bare = {key: value for key, value in flat[-1].items() if key != "segmentation"}
        rescore_predictions(write(tmp_path, [*flat[:-1], bare]), NAME)
    with pytest.raises(ValueError, match="of different sizes"):
        other = encode_label_map(np.zeros((2, 2), dtype=int), dataset[0]["file_name"])
        rescore_predictions(write(tmp_path, flat + other), NAME)
    MetadataCatalog.get(NAME).stuff_dataset_id_to_contiguous_id = {5: 0}
    with pytest.raises(ValueError, match="category_id 0 is none of the data set's ids"):
        rescore_predictions(write(tmp_path, flat), NAME)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (23, 17)])
@pytest.mark.parametrize("num_classes", [1, 2, 40])
def test_equals_the_encoding_of_each_mask(shape, num_classes):
    labels = np.random.default_rng(0).integers(0, num_classes, shape)
    records = encode_label_map(labels, "a.jpg")
    assert [record["category_id"] for record in records] == np.unique(labels).tolist()
    for record in records:
        assert record["file_name"] == "a.jpg"
        mask = np.asfortranarray(labels == record["category_id"], dtype=np.uint8)
        expected = coco_mask.encode(mask)
        assert record["segmentation"]["size"] == list(shape)
        assert record["segmentation"]["counts"] == expected["counts"].decode()
        np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]), mask)
    np.testing.assert_array_equal(decode_label_map(records), labels)


def test_category_ids_of_the_data_set():
    labels = np.array([[0, 1]])
    records = encode_label_map(labels, "a.jpg", category_ids={0: 92, 1: 200})
    assert [record["category_id"] for record in records] == [92, 200]
    with pytest.raises(ValueError, match="Class 1 "):
        encode_label_map(labels, "a.jpg", category_ids={0: 92})
