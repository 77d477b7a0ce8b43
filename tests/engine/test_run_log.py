"""The console has what a person needs, the file of a run everything."""

import logging

import pytest

from escnet_d2.engine.run_log import is_for_the_console, start_console_log, start_file_log


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        ("escnet_d2.engine.trainer", logging.INFO, True),
        ("escnet_d2.engine.setup", logging.DEBUG, False),
        ("detectron2.utils.events", logging.INFO, True),
        ("detectron2.engine.defaults", logging.INFO, False),
        ("detectron2.data.common", logging.INFO, False),
        ("detectron2.data.common", logging.WARNING, True),
        ("detectron2.engine.train_loop", logging.ERROR, False),
    ],
)
def test_what_a_person_needs(name, level, expected):
    record = logging.LogRecord(name, level, __file__, 1, "text", None, None)
    assert is_for_the_console(record) is expected


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
