"""A checkpoint says of what model it is: by what it holds, or by the shapes of its tensors."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from escnet_d2 import OpenVocabPredictor
from escnet_d2.engine import checkpoint_config, find_config, identify, load_config
from escnet_d2.weights import WeightsError

HEAD = "sem_seg_head.predictor.transformer.head.weight"


@pytest.fixture
def checkpoint(tmp_path):
    """Returns a function that writes a file with the tensors of a configuration's model.

    One number stands for each tensor, so that models of any size fit.
    """

    def write(config, **changes):
        cfg = load_config(config, ["MODEL.WEIGHTS", "any"])
        cfg.MODEL.DEVICE = "meta"
        with torch.device("meta"):
            shapes = {name: t.shape for name, t in build_model(cfg).state_dict().items()}
        shapes.update(changes)
        path = tmp_path / "model.pth"
        torch.save({"model": {n: torch.zeros(()).expand(s) for n, s in shapes.items()}}, path)
        return path

    return write


@pytest.mark.parametrize(
    ("config", "slides"),
    [
        ("cat_seg_vitb16_384_bs4_80k", True),
        ("cat_seg_vitl14_336_bs4_80k", True),
        ("sed_convnextb_768_bs4_80k", False),
        ("sed_convnextl_768_bs4_80k", False),
    ],
)
def test_tensors_tell_the_model(checkpoint, config, slides):
    path = checkpoint(config)
    name, cfg = checkpoint_config(path)
    assert name == config
    # As the release was evaluated.
    assert cfg.TEST.SLIDING_WINDOW is slides
    assert str(path) == cfg.MODEL.WEIGHTS
    assert load_config(config).MODEL.SEM_SEG_HEAD == cfg.MODEL.SEM_SEG_HEAD


def test_what_is_not_known_is_refused_with_what_was_seen(checkpoint, tmp_path):
    with pytest.raises(
        WeightsError, match=r"nearest is cat_seg_tiny, where 1 of 246 .*\(3, 3\) in"
    ):
        checkpoint_config(checkpoint("cat_seg_tiny", **{HEAD: (3, 3)}))
    first_version = checkpoint("cat_seg_tiny", **{HEAD: (3, 3), "backbone.stem.weight": (2,)})
    with pytest.raises(WeightsError, match=r"CAT-Seg's first version"):
        checkpoint_config(first_version)
    torch.save({"layer1.0.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match=r"no known model: its 1 tensors are layer1.0.\* \(1\)"):
        checkpoint_config(tmp_path / "resnet.pth")
    with pytest.raises(FileNotFoundError, match=r"missing.pth does not exist.*cat_seg_vitb16"):
        checkpoint_config("missing.pth")


def test_models_that_differ_in_parts_and_in_nothing_but_keys(checkpoint, monkeypatch):
    # All would take long.
    names = [f"escnet_tiny_shapes{end}" for end in ("", "_guidance", "_no_sam", "_paper")]
    few = {name: find_config(name) for name in names}
    monkeypatch.setattr(identify, "available_configs", lambda: few)
    # The one without SAM's blocks fills a part of the others.
    assert checkpoint_config(checkpoint(names[0]))[0] == names[0]
    assert checkpoint_config(checkpoint(names[2]))[0] == names[2]
    with pytest.raises(
        WeightsError, match="fits escnet_tiny_shapes_guidance, escnet_tiny_shapes_p"
    ):
        checkpoint_config(checkpoint(names[3]))


def test_our_own_checkpoints_hold_their_configuration(prepared_folder, run_program, tmp_path):
    folder = prepared_folder(tmp_path / "photos", "config_test", train=2, val=1)
    options = ("VOCABULARY.SYNONYMS", "max", "OUTPUT_DIR", tmp_path / "run")
    done = run_program("train_net.py", "--config-file", folder / "tiny.yaml", *options)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run/model_final.pth"
    predictor = OpenVocabPredictor.from_checkpoint(path, vocabulary="sky, dog|hound")
    # Neither of these is seen in tensors.
    assert predictor.cfg.MODEL.CLIP.RESOLUTION == 32
    assert predictor.resolve_vocabulary("dog|hound").num_entries == 2
    image = Image.effect_noise((40, 30), 90)
    given = OpenVocabPredictor(folder / "tiny.yaml", weights=path, vocabulary="sky, dog")
    assert (predictor(image, "sky, dog").scores == given(image).scores).all()

    # They are evaluated and fine-tuned without a configuration file.
    done = run_program("escnet-d2", "evaluate", "--weights", path, "OUTPUT_DIR", tmp_path / "eval")
    assert done.returncode == 0, done.stderr
    scores = [tmp_path / run / "inference/config_test_val/results.json" for run in ("run", "eval")]
    assert scores[0].read_text() == scores[1].read_text()
    tuned = ("--weights", path, "SOLVER.BASE_LR", "0.01", "OUTPUT_DIR", tmp_path / "tuned")
    assert run_program("escnet-d2", "train", *tuned).returncode == 0
    before, after = (OpenVocabPredictor.from_checkpoint(tmp_path / run / "model_final.pth")
                     for run in ("run", "tuned"))  # fmt: skip
    assert before.cfg.MODEL.CLIP == after.cfg.MODEL.CLIP
    assert (before(image, "sky, dog").scores != after(image, "sky, dog").scores).any()

    content = torch.load(path, weights_only=True)
    content["config"]["MODEL"]["NEW"] = {"KEY": 1}
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"does not take: .*MODEL.NEW.* Give .*--config-file"):
        checkpoint_config(path)
