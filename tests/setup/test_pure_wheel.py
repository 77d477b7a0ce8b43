"""Re-tagging of Detectron2's snapshot."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

METADATA = """\
Metadata-Version: 2.1
Name: fake-pack
Version: 0.7.2
Summary: A pack with an unusually long summary line that must come out of the rewriting in one piece
Requires-Python: >=3.8
Requires-Dist: numpy<2
Requires-Dist: black
Provides-Extra: dev
Requires-Dist: isort==5.12.0; extra == "dev"

Requires-Dist: is only text here, in the description.
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: setuptools (75.6.0)
Root-Is-Purelib: false
Tag: cp310-cp310-linux_x86_64
"""


def write_fake_wheel(folder: Path, **changes: str) -> Path:
    files = {
        "fake_pack/__init__.py": "VALUE = 42\n",
        "fake_pack/_C.cpython-310-x86_64-linux-gnu.so": "ELF",
        "fake_pack/tools/kept.py": "",
        "fake_pack/configs/a.yaml": "A: 1\n",
        "tools/__init__.py": "",
        "tools/train_net.py": "",
        "fake_pack-0.7.2.dist-info/METADATA": METADATA,
        "fake_pack-0.7.2.dist-info/WHEEL": WHEEL,
        "fake_pack-0.7.2.dist-info/top_level.txt": "fake_pack\ntools\n",
        "fake_pack-0.7.2.dist-info/LICENSE": "Apache\n",
        "fake_pack-0.7.2.dist-info/RECORD": "stale,,\n",
        "fake_pack-0.7.2.dist-info/RECORD.jws": "signature",
        **changes,
    }
    wheel = folder / "fake_pack-0.7.2-cp310-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            if content is not None:
                archive.writestr(name, content)
    return wheel


def retag(pure_wheel, wheel: Path, target: Path) -> Path:
    target.mkdir()
    return pure_wheel.make_pure_wheel(
        wheel, target, requirements=("numpy", "setuptools<81"), drop_packages=("tools",)
    )


def test_retagged_wheel_has_the_python_files_only(tmp_path, pure_wheel):
    target = retag(pure_wheel, write_fake_wheel(tmp_path), tmp_path / "out")
    assert target == tmp_path / "out" / "fake_pack-0.7.2-py3-none-any.whl"
    info = "fake_pack-0.7.2.dist-info"
    with zipfile.ZipFile(target) as archive:
        assert sorted(archive.namelist()) == sorted(
            [
                "fake_pack/__init__.py",
                "fake_pack/tools/kept.py",
                "fake_pack/configs/a.yaml",
                *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "LICENSE", "RECORD")),
                f"{info}/top_level.txt",
            ]
        )
        assert archive.read(f"{info}/top_level.txt") == b"fake_pack\n"


def test_retagged_wheel_states_its_tags_and_requirements(tmp_path, pure_wheel):
    target = retag(pure_wheel, write_fake_wheel(tmp_path), tmp_path / "out")
    with zipfile.ZipFile(target) as archive:
        wheel = message_from_bytes(archive.read("fake_pack-0.7.2.dist-info/WHEEL"))
        metadata = message_from_bytes(archive.read("fake_pack-0.7.2.dist-info/METADATA"))
    assert wheel.get_all("Tag") == ["py3-none-any"]
    assert wheel.get_all("Root-Is-Purelib") == ["true"]
    assert wheel["Wheel-Version"] == "1.0"
    assert metadata.get_all("Requires-Dist") == ["numpy", "setuptools<81"]
    assert metadata.get_all("Provides-Extra") is None
    assert metadata["Summary"].endswith("in one piece")
    assert "\n" not in metadata["Summary"]
    assert metadata["Requires-Python"] == ">=3.8"
    assert metadata.get_payload() == "Requires-Dist: is only text here, in the description.\n"


def test_record_of_a_retagged_wheel_holds(tmp_path, pure_wheel):
    target = retag(pure_wheel, write_fake_wheel(tmp_path), tmp_path / "out")
    with zipfile.ZipFile(target) as archive:
        record = archive.read("fake_pack-0.7.2.dist-info/RECORD").decode()
        rows = [line.split(",") for line in record.splitlines()]
        assert sorted(name for name, _, _ in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            if name.endswith("/RECORD"):
                assert (digest, size) == ("", "")
                continue
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            assert digest == f"sha256={expected.rstrip('=')}"
            assert int(size) == len(content)


def test_pip_installs_a_retagged_wheel(tmp_path, pure_wheel):
    target = retag(pure_wheel, write_fake_wheel(tmp_path), tmp_path / "out")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(target)], check=True)
    assert (site / "fake_pack" / "__init__.py").read_text() == "VALUE = 42\n"
    assert not (site / "tools").exists()


def test_what_is_no_wheel_is_refused_by_name(tmp_path, pure_wheel):
    text = tmp_path / "page.whl"
    text.write_text("<html>")
    with pytest.raises(ValueError, match="page.whl is not a wheel"):
        pure_wheel.make_pure_wheel(text, tmp_path, requirements=())
    two = write_fake_wheel(tmp_path, **{"other-1.0.dist-info/METADATA": ""})
    with pytest.raises(ValueError, match="one .dist-info folder"):
        pure_wheel.make_pure_wheel(two, tmp_path, requirements=())
    bare = write_fake_wheel(tmp_path, **{"fake_pack-0.7.2.dist-info/WHEEL": None})
    with pytest.raises(ValueError, match="has no fake_pack-0.7.2.dist-info/WHEEL"):
        pure_wheel.make_pure_wheel(bare, tmp_path, requirements=())
