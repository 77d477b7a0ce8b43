import pytest
import torch
from torch import nn

from escnet_d2.engine import TrainingCheckpointer


def network(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))


def write(path, content):
    torch.save(content, path)
    return str(path)


def load(path, model=None):
    return TrainingCheckpointer(network() if model is None else model).load(str(path))


def test_weights_come_back(tmp_path):
    model = network()
    TrainingCheckpointer(model, str(tmp_path)).save("saved")
    other = network()
    rest = load(tmp_path / "saved.pth", other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))
    assert len(rest["random_states"]) == 1


def test_bare_state_dict_and_distributed_prefix_are_read(tmp_path):
    model, other = network(), network()
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    load(write(tmp_path / "bare.pth", state), other)
    assert torch.equal(model[0].weight, other[0].weight)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"backbone.weight": torch.zeros(1)}, "of another model: none of its 1 tensors"),
        (network(4).state_dict(), r"0.weight is \(4, 2\) in the file, \(3, 2\) in the model"),
        (network()[:1].state_dict(), "1.weight is missing in the file"),
        ({}, "of another model"),
    ],
    ids=["other names", "other shapes", "incomplete", "empty"],
)
def test_checkpoint_of_another_model(tmp_path, state, message):
    with pytest.raises(RuntimeError, match=message) as error:
        load(write(tmp_path / "wrong.pth", {"model": state}))
    assert "wrong.pth" in str(error.value)


def test_more_weights_than_the_model_has_are_fine_unless_resuming(tmp_path):
    state = {**network().state_dict(), "2.weight": torch.zeros(1)}
    path = write(tmp_path / "more.pth", {"model": state})
    load(path)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match=r"more.pth .*2.weight is not in the model"):
        TrainingCheckpointer(model, optimizer=optimizer).load(path)


def test_state_of_another_optimizer(tmp_path):
    model = network()
    half = torch.optim.SGD(model[0].parameters(), lr=0.1)
    TrainingCheckpointer(model, str(tmp_path), optimizer=half).save("half")
    whole = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="half.pth does not fit this run"):
        TrainingCheckpointer(model, optimizer=whole).load(str(tmp_path / "half.pth"))


@pytest.mark.parametrize("content", [b"gone.pth", b"", bytes(range(128, 256))])
def test_a_note_of_the_last_checkpoint_that_names_none(content, tmp_path):
    (tmp_path / "last_checkpoint").write_bytes(content)
    with pytest.raises(RuntimeError, match="last_checkpoint names no checkpoint that is there"):
        TrainingCheckpointer(network(), str(tmp_path)).resume_or_load("")


def test_can_load_again_after_an_error(tmp_path):
    checkpointer = TrainingCheckpointer(network(), str(tmp_path))
    checkpointer.save("good")
    with pytest.raises(RuntimeError):
        checkpointer.load(write(tmp_path / "bad.pth", [1]))
    checkpointer.load(str(tmp_path / "good.pth"))
