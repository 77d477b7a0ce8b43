"""One line and an exit code for what a user got wrong, a traceback for what we got wrong."""

import pytest
from torch.utils.data import DataLoader

from escnet_d2.engine import one_line_errors
from escnet_d2.weights import WeightsError


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("KEY must be\n  1."), 2, "error: KEY must be 1."),
        (FileNotFoundError(2, "No such file", "a.pth"), 2, "No such file: 'a.pth'"),
        (WeightsError("a.pth is empty."), 2, "error: a.pth is empty."),
        (FloatingPointError("A loss is NaN."), 1, "error: A loss is NaN."),
        (KeyboardInterrupt(), 130, "interrupted."),
        (ValueError(), 2, "error: ValueError"),
    ],
)
def test_one_line(error, code, text, capsys):
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    assert end.value.code == code
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert text in output


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), RuntimeError("c")])
def test_programming_errors_stay(error):
    with pytest.raises(type(error)), one_line_errors():
        raise error


class Broken:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ValueError("images/a.png: cannot be read")


def test_errors_of_a_data_loaders_worker(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        list(DataLoader(Broken(), num_workers=1))
    output = capsys.readouterr().err
    assert output.endswith("error: images/a.png: cannot be read\n")
    assert "Traceback" not in output
