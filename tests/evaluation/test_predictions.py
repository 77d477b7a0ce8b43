import numpy as np
import pytest
from pycocotools import mask as coco_mask

from escnet_d2.evaluation.predictions import encode_label_map


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (23, 17)])
def test_equals_the_encoding_of_each_mask(shape):
    labels = np.random.default_rng(0).integers(0, 4, shape)
    records = encode_label_map(labels, "a.jpg")
    assert [record["category_id"] for record in records] == np.unique(labels).tolist()
    for record in records:
        assert record["file_name"] == "a.jpg"
        mask = np.asfortranarray(labels == record["category_id"], dtype=np.uint8)
        expected = coco_mask.encode(mask)
        assert record["segmentation"]["size"] == list(shape)
        assert record["segmentation"]["counts"] == expected["counts"].decode()
        np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]), mask)


def test_category_ids_of_the_data_set():
    labels = np.array([[0, 1]])
    records = encode_label_map(labels, "a.jpg", category_ids={0: 92, 1: 200})
    assert [record["category_id"] for record in records] == [92, 200]
    with pytest.raises(ValueError, match="Class 1 "):
        encode_label_map(labels, "a.jpg", category_ids={0: 92})
