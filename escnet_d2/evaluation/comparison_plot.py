"""The plot of a comparison: score against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_comparison(
    points: Sequence[tuple[str, Mapping[str, Any], float]], label: str, path: Path
) -> None:
    """Draws a point for each model.

    Args:
        points: name, cost (see :func:`escnet_d2.engine.model_cost.measure_cost`) and score.
        label: of the axis of the scores.
        path: PNG to write.
    """
    # Only those who compare should wait for it to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, cost, value in points:
        axes.scatter(cost["latency_ms"], value)
        axes.annotate(
            f"{name}\n{cost['parameters'] / 1e6:.1f} M parameters",
            (cost["latency_ms"], value),
            textcoords="offset points",
            xytext=(6, 4),
            fontsize=8,
        )
    axes.set_xlabel(f"ms / image ({points[0][1]['device']})")
    axes.set_ylabel(label)
    axes.margins(0.2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
