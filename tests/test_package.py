"""What ``import escnet_d2`` does."""

import subprocess
import sys

import pytest
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY

import escnet_d2


def test_model_and_data_sets_are_registered():
    assert "ESCNet" in META_ARCH_REGISTRY
    assert "ade20k_150_test_sem_seg" in DatasetCatalog
    assert "shapes_val_sem_seg" in DatasetCatalog


def test_public_names():
    assert {"OpenVocabPredictor", "get_cfg", "__version__"} <= set(dir(escnet_d2))
    assert escnet_d2.get_cfg().MODEL.ESCNET.NUM_BLOCKS > 0
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = escnet_d2.missing


def test_import_survives_a_missing_package():
    program = (
        "import sys\n"
        "sys.modules['detectron2'] = None\n"
        "import escnet_d2\n"
        "print(escnet_d2.__version__)\n"
        "escnet_d2.get_cfg\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.strip() == escnet_d2.__version__
    assert "UserWarning: escnet_d2 cannot be used: No module named 'detectron2" in result.stderr
    assert "ImportError: escnet_d2.get_cfg cannot be used" in result.stderr
    assert "python -m escnet_d2.doctor" in result.stderr
