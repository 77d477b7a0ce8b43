"""The effects of ``import escnet_d2``."""

import subprocess
import sys

import pytest

import escnet_d2


def test_public_names():
    assert {"OpenVocabPredictor", "get_cfg", "__version__"} <= set(dir(escnet_d2))
    assert escnet_d2.get_cfg().MODEL.ESCNET.NUM_BLOCKS > 0


def run(program: str, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *options, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_missing_package_is_an_error_that_names_the_doctor():
    done = run("import sys\nsys.modules['detectron2'] = None\nimport escnet_d2\n")
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: escnet_d2 can't be imported (ModuleNotFoundError: ")
    assert message.endswith("python -m escnet_d2 doctor says what is missing")


@pytest.mark.slow
def test_the_import_is_silent_and_silences_nothing_else():
    done = run("import escnet_d2, escnet_d2.engine", "-W", "default")
    assert "torch.jit" not in done.stderr
    program = "import escnet_d2, warnings; warnings.warn('`torch.jit.script` is my', FutureWarning)"
    assert "is my" in run(program).stderr
