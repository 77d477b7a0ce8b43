"""Refusals that rooms share."""

from __future__ import annotations

from collections.abc import Collection


def check_choice(key: str, value: object, accepted: Collection[str]) -> None:
    """Raises ValueError unless ``value`` of the configuration key ``key`` is accepted."""
    if value not in accepted:
        raise ValueError(f"{key} must be one of {', '.join(accepted)}, got {value!r}.")


def check_at_least(key: str, value: float, minimum: int) -> None:
    """Raises ValueError if ``value`` of the configuration key ``key`` is below a minimum."""
    if value < minimum:
        raise ValueError(f"{key} must be {minimum} or more, got {value}.")
