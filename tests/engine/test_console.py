"""What a run says on the console, what it keeps for its file, and how it ends."""

import logging

import pytest
from torch.utils.data import DataLoader

from escnet_d2.engine.console import one_line_errors, start_console_log, start_file_log


def test_the_file_has_everything_and_the_console_no_colors(tmp_path, capsys):
    start_console_log()
    start_file_log(str(tmp_path))
    logging.getLogger("detectron2.engine.defaults").info("a model of 800 lines")
    logging.getLogger("escnet_d2.engine.setup").debug("settings of the compiler")
    logging.getLogger("escnet_d2.engine.trainer").info("training")
    logging.getLogger("fvcore.common").warning("careful")
    console = capsys.readouterr().out
    assert [line.rpartition(": ")[2] for line in console.splitlines()] == ["training", "careful"]
    assert "\x1b" not in console
    written = (tmp_path / "log.txt").read_text()
    for text in ("800 lines", "compiler", "training", "careful"):
        assert text in written


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("KEY must be\n  1."), 2, "error: KEY must be 1."),
        (FileNotFoundError(2, "No such file", "a.pth"), 2, "No such file: 'a.pth'"),
        (MemoryError("27.9 GiB"), 1, "27.9 GiB; smaller images, INPUT.CROP.SIZE and"),
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
    text = "images/a.png: cannot be read"

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ValueError(self.text)


def test_errors_of_a_data_loaders_worker(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        list(DataLoader(Broken(), num_workers=1))
    output = capsys.readouterr().err
    assert output.endswith("error: images/a.png: cannot be read\n")
    assert "Traceback" not in output


@pytest.mark.parametrize("text", ["two\nlines", "a: b\nc: d", ""])
def test_lines_of_a_data_loaders_worker(text, capsys, monkeypatch):
    monkeypatch.setattr(Broken, "text", text)
    with pytest.raises(SystemExit), one_line_errors():
        list(DataLoader(Broken(), num_workers=1))
    expected = " ".join(text.split()) or "ValueError"
    assert capsys.readouterr().err.endswith(f"error: {expected}\n")
