"""An overlay for browsers: the name of what is under the pointer, without a line of JavaScript."""

from __future__ import annotations

import base64
import html
import io

import cv2
import numpy as np
from PIL import Image

from escnet_d2.outputs.palette import class_colors
from escnet_d2.structures import Segmentation

# Long side in pixels of what is sent.
_MAX_SIDE = 1280
# Regions are as exact as that, in pixels.
_TOLERANCE = 0.7

_STYLE = """
.overlay { width: 100%; height: auto; max-height: 75vh; border-radius: 8px; display: block; }
.overlay path { fill: transparent; fill-rule: evenodd; pointer-events: all; }
.overlay g:hover path { fill: rgb(255 255 255 / 22%); stroke: white; stroke-width: 3; }
.overlay text { visibility: hidden; pointer-events: none; fill: white; stroke: #191919;
  stroke-width: 0.28em; paint-order: stroke; font: 600 1em sans-serif; }
.overlay g:hover text { visibility: visible; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; margin-top: 10px; }
.legend i { display: inline-block; width: 1em; height: 1em; margin-right: 6px; border-radius: 3px;
  border: 1px solid #aaa; vertical-align: -0.12em; }
"""


def overlay_html(segmentation: Segmentation, overlay: Image.Image) -> str:
    """Shows an overlay whose regions light up and say their name where the pointer is.

    Args:
        segmentation: labels (H, W).
        overlay: of the same image, without a legend, in any multiple of its size.

    Returns:
        HTML with everything in it: the picture, and below it a legend of the classes present.
    """
    factor = min(1, _MAX_SIDE / max(overlay.size))
    width, height = (max(1, round(side * factor)) for side in overlay.size)
    picture = io.BytesIO()
    overlay.resize((width, height)).save(picture, format="JPEG", quality=90)
    data = base64.b64encode(picture.getvalue()).decode()
    labels = cv2.resize(segmentation.labels, (width, height), interpolation=cv2.INTER_NEAREST)
    colors = class_colors(segmentation.class_names)
    regions, legend = [], []
    size = max(14, round(max(width, height) / 32))
    for name, share in segmentation.areas().items():
        index = segmentation.class_names.index(name)
        text = f"{html.escape(name)} &ndash; {100 * share:.1f}&nbsp;%"
        regions.append(
            f'<g data-name="{html.escape(name)}"><path d="{_outline(labels == index)}"/>'
            f'<text x="{size}" y="{1.6 * size}">{text}</text></g>'
        )
        color = "".join(f"{value:02x}" for value in colors[index])
        legend.append(f'<span><i style="background:#{color}"></i>{text}</span>')
    return (
        f'<style>{_STYLE}</style><svg class="overlay" viewBox="0 0 {width} {height}" '
        f'font-size="{size}"><image href="data:image/jpeg;base64,{data}" width="{width}" '
        f'height="{height}"/>{"".join(regions)}</svg><div class="legend">{"".join(legend)}</div>'
    )


def _outline(mask: np.ndarray) -> str:
    """Returns the borders of a mask (H, W), holes included, as a path of SVG."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons = (cv2.approxPolyDP(contour, _TOLERANCE, closed=True) for contour in contours)
    return "".join(
        f"M{' '.join(f'{x},{y}' for x, y in polygon[:, 0].tolist())}Z" for polygon in polygons
    )
