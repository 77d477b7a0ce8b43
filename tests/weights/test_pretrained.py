"""``OpenVocabPredictor.from_pretrained``: names and repositories of Hugging Face."""

from __future__ import annotations

import io

import huggingface_hub
import numpy as np
import pytest
import torch

from escnet_d2 import OpenVocabPredictor
from escnet_d2.weights import WeightsError, released_file


@pytest.fixture
def checkpoint():
    """The bytes of a small CAT-Seg's checkpoint, as its release writes it."""
    content = io.BytesIO()
    torch.save({"model": OpenVocabPredictor("cat_seg_tiny").model.state_dict()}, content)
    return content.getvalue()


def test_published_weights_and_those_of_a_repository(server, checkpoint, monkeypatch):
    # The name says where the file is, its tensors say what model it is.
    server.files = {"model_base.pth": checkpoint, "model_final.pth": checkpoint}
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    published = OpenVocabPredictor.from_pretrained("cat_seg_vitb16", vocabulary="cat, dog")
    file = released_file("cat_seg_vitb16").find()
    assert file.name == "model_base.pth"
    assert "spaces--hamacojr--CAT-Seg-weights" in file.parts
    theirs = OpenVocabPredictor.from_pretrained("owner/model", vocabulary="cat, dog")
    assert theirs.cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED == "escnet_tiny"
    assert (theirs(image).scores == published(image).scores).all()
    # And without network.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    server.requests.clear()
    OpenVocabPredictor.from_pretrained("owner/model")
    assert not server.requests
    with pytest.raises(WeightsError, match="cat_seg_vitl14 are not on this machine"):
        OpenVocabPredictor.from_pretrained("cat_seg_vitl14")


def test_shipped_weights_and_unknown_names():
    assert OpenVocabPredictor.from_pretrained("escnet_tiny_shapes").cfg.MODEL.CLIP.RESOLUTION == 192
    with pytest.raises(WeightsError, match=r"'cat_seg'; accepted: .*cat_seg_vitb16.* OWNER/MODEL"):
        OpenVocabPredictor.from_pretrained("cat_seg")
