"""Refusals that rooms share."""

from __future__ import annotations

from collections.abc import Collection


def check_choice(key: str, value: object, accepted: Collection[str]) -> None:
    """Raises ValueError unless ``value`` of the configuration key ``key`` is accepted."""
    if value not in accepted:
        raise ValueError(f"{key} must be one of {', '.join(accepted)}, got {value!r}.")
