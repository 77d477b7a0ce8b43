"""Files of ``escnet-d2 export``, run by torch or ONNX Runtime in processes without this package."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from escnet_d2.commands.export import main
from escnet_d2.engine import OpenVocabPredictor

VOCABULARY = "circle, square|box, star"
TINY = ["MODEL.SEM_SEG_HEAD.NUM_LAYERS", "1"]
RUN_PT2 = """
import sys, torch
{imports}
extra = {{"escnet_d2.json": ""}}
program = torch.export.load(sys.argv[1], extra_files=extra)
torch.save((program.module()(torch.load(sys.argv[2])), extra["escnet_d2.json"]), sys.argv[3])
"""
RUN_ONNX = """
import sys, torch, onnxruntime
{imports}
session = onnxruntime.InferenceSession(sys.argv[1])
scores, = session.run(["scores"], {{"images": torch.load(sys.argv[2]).numpy()}})
text = session.get_modelmeta().custom_metadata_map["escnet_d2.json"]
torch.save((torch.from_numpy(scores), text), sys.argv[3])
"""
RUN_COMPILED = """
import sys, torch
sys.modules["escnet_d2"] = None
compiled = torch._inductor.aoti_load_package(sys.argv[1])
torch.save(compiled(torch.load(sys.argv[2])), sys.argv[3])
"""
WITHOUT_US = "sys.modules['escnet_d2'] = None"
# Which registers the operator of the k-means.
WITH_OUR_LAYERS = "import escnet_d2.layers"
ALL_CLASSES = ["MODEL.CLIP.RESOLUTION", "96", "MODEL.ESCNET.VOTES_KEPT", "1.0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "suffix", "opts", "script", "imports"),
    [
        ("cat_seg_tiny", "onnx", TINY, RUN_ONNX, WITHOUT_US),
        ("sed_tiny", "pt2", [], RUN_PT2, WITHOUT_US),
        ("escnet_tiny_shapes", "pt2", ALL_CLASSES, RUN_PT2, WITH_OUR_LAYERS),
    ],
)
def test_the_file_scores_as_the_model(tmp_path, capsys, config, suffix, opts, script, imports):
    if suffix == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    is_escnet = config.startswith("escnet")
    source = ["--weights" if is_escnet else "--config-file", config]
    torch.manual_seed(0)
    model = OpenVocabPredictor(**{"weights" if is_escnet else "config": config}, opts=opts)
    path = tmp_path / f"model.{suffix}"
    arguments = [*source, "--vocabulary", VOCABULARY, "--output", str(path), "--allow-untrained"]
    torch.manual_seed(0)
    number_of_escnet = ["--images", "2"] if is_escnet else []
    assert main([*arguments, *number_of_escnet, "--opts", *opts]) == 0
    shown = capsys.readouterr().out
    assert float(shown.split()[-1]) < 1e-5

    # Another number of images than the file was traced with, where that is open.
    side = model.model.resolution if is_escnet else model.model.resolution[0]
    number = 2 if is_escnet else 3
    images = 255 * torch.rand(number, 3, side, side)
    size = f"({2 if is_escnet else 'any'}, 3, {side}, {side})"
    assert f"images: RGB, 0 to 255, float32 {size}" in shown
    files = [str(tmp_path / name) for name in ("images.pt", "result.pt")]
    torch.save(images, files[0])
    code = script.format(imports=imports)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path), *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores, description = torch.load(files[1])
    assert json.loads(description)["class_names"] == ["circle", "square", "star"]
    vocabulary = model.resolve_vocabulary(VOCABULARY)
    model.model.label_map_only = False
    # At the size of the scores, which then are not resized.
    height, width = scores.shape[2:]
    batch = [
        {"image": image, "height": height, "width": width, "vocabulary": vocabulary}
        for image in images
    ]
    with torch.no_grad():
        expected = torch.stack([output["sem_seg"] for output in model.model(batch)])
    assert scores.shape == expected.shape
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(torch._inductor, "aoti_compile_and_package"), reason="needs torch 2.6"
)
def test_inductor_compiles_a_file(tmp_path):
    path, compiled = tmp_path / "model.pt2", str(tmp_path / "compiled.pt2")
    arguments = ["--config-file", "sed_tiny", "--vocabulary", "a, b", "--output", str(path)]
    assert main([*arguments, "--allow-untrained"]) == 0
    program = torch.export.load(path)
    torch._inductor.aoti_compile_and_package(program, package_path=compiled)
    images = 255 * torch.rand(3, *program.example_inputs[0][0].shape[1:])
    files = [str(tmp_path / name) for name in ("images.pt", "scores.pt")]
    torch.save(images, files[0])
    run = [sys.executable, "-W", "ignore", "-c", RUN_COMPILED, compiled, *files]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(files[1]), program.module()(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "name", "opts", "line"),
    [
        ("sam_mi_tiny", "a.pt2", [], "MODEL.META_ARCHITECTURE SAMMI cannot be exported"),
        ("escnet_tiny", "a.onnx", [], "ONNX has no operator for ESC-Net's k-means"),
        ("sed_tiny", "a.pt2", ["TEST.FAST_INFERENCE", "True"], "TEST.FAST_INFERENCE must be"),
        ("escnet_tiny", "a.pt2", ["MODEL.ESCNET.VOTES_KEPT", "0.9"], "VOTES_KEPT must be 1.0"),
        ("cat_seg_tiny", "a.pth", [], "a.pth: the file must end in .pt2 or .onnx"),
        ("cat_seg_tiny", "a.pt2", [], "untrained"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(tmp_path, capsys, config, name, opts, line):
    path = tmp_path / name
    arguments = ["--config-file", config, "--vocabulary", "a, b", "--output", str(path)]
    assert main([*arguments, "--opts", *opts]) == 2
    error = capsys.readouterr().err
    assert error.startswith("export: error: ")
    assert line in error
    assert error.count("\n") == 1
    assert not path.exists()


@pytest.mark.parametrize(("config", "number"), [("escnet_tiny", "0"), ("sed_tiny", "2")])
def test_numbers_of_images(tmp_path, capsys, config, number):
    output = ["--output", str(tmp_path / "a.pt2"), "--images", number]
    assert main(["--config-file", config, "--vocabulary", "a, b", *output]) == 2
    assert "--images must be" in capsys.readouterr().err
