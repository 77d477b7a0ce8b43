"""What rooms make of values, and refuse, alike."""

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


# Classes whose maps stay in a processor's cache together, at the sizes of the papers.
_CPU_CHUNK = 8


def chunk_size(key: str, value: int, device: str) -> int:
    """Returns classes computed at a time, 0 for all.

    Args:
        key: CLASS_CHUNK_SIZE of a method.
        value: its value; -1 leaves it to the device.
        device: MODEL.DEVICE.

    Raises:
        ValueError: a value below -1.
    """
    check_at_least(key, value, -1)
    if value == -1:
        return _CPU_CHUNK if device == "cpu" else 0
    return value
