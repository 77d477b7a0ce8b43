"""Errors of the weights room."""

from __future__ import annotations


class WeightsError(RuntimeError):
    """Released weights are missing, damaged or not what they should be; names the file."""


class DownloadError(WeightsError):
    """One source of a file failed; another one may still have it."""
