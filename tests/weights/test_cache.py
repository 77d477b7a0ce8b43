from __future__ import annotations

from pathlib import Path

import pytest

from escnet_d2.weights import WeightsError, cache_dir, is_offline


def test_the_variable_wins_over_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ESCNET_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "escnet_d2"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "escnet_d2"
    monkeypatch.setenv("ESCNET_CACHE", "~/weights")
    assert cache_dir() == tmp_path / "weights"


def test_a_user_without_a_home_is_told_which_variable_to_set(monkeypatch):
    def no_home(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(WeightsError, match="ESCNET_CACHE"):
        cache_dir()


@pytest.mark.parametrize(
    ("value", "offline"), [("", False), ("0", False), ("False", False), ("1", True), ("yes", True)]
)
def test_values_of_the_offline_variable(monkeypatch, value, offline):
    monkeypatch.setenv("ESCNET_OFFLINE", value)
    assert is_offline() is offline
