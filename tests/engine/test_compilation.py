"""MODEL.COMPILE: the same results, under the same names."""

from __future__ import annotations

import pytest
import torch

from escnet_d2.engine import OpenVocabPredictor, Trainer
from escnet_d2.engine.compilation import compile_regions


@pytest.mark.parametrize(
    ("config", "number"),
    # Blocks of the image tower or its stages, then of the head.
    [("escnet_tiny", 4 + 2 + 1), ("cat_seg_tiny", 4 + 2 * 2 + 2), ("sed_tiny", 4 + 3 * 3)],
)
def test_regions_are_compiled_under_their_names(config, number):
    model = OpenVocabPredictor(config).model
    names = list(model.state_dict())
    assert compile_regions(model) == number
    assert list(model.state_dict()) == names
    # torch's own mark; the text tower has none.
    compiled = [name for name, m in model.named_modules() if m._compiled_call_impl is not None]
    assert len(compiled) == number
    assert not [name for name in compiled if ".model.transformer." in name]


def test_the_trainer_compiles_where_it_is_asked_to(tiny_cfg):
    for asked in (False, True):
        tiny_cfg.MODEL.COMPILE = asked
        fusion = Trainer.build_model(tiny_cfg).sem_seg_head.blocks[0].fusion
        assert (fusion._compiled_call_impl is not None) == asked


@pytest.mark.slow
def test_results_are_equal_up_to_rounding_for_any_number_of_classes(monkeypatch):
    # The graphs that torch captures, without the minutes in which inductor compiles them.
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module: compile_module(module, backend="aot_eager")
    )
    models = []
    for compiled in (False, True):
        torch.manual_seed(0)
        # One block of each kind: compiling takes its time.
        opts = ["MODEL.COMPILE", compiled, "MODEL.ESCNET.NUM_BLOCKS", 1]
        models.append(OpenVocabPredictor("escnet_tiny", opts=opts).model)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        for number in (3, 5, 7):
            text = models[0].encode_text(tuple((f"class {i}",) for i in range(number)))
            eager, compiled = (model.predict(images, text).logits for model in models)
            torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)
