"""The page, in Gradio: a photo and class names in; overlay, toggles and downloads out."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio import FileData
from PIL import Image

from escnet_d2.outputs import SegmentedImage

from .picture import overlay_html
from .segmenter import PhotoSegmenter, shown_overlay, write_downloads

_TITLE = "# What is in this picture?"
_HINT = "A comma begins the next class, | another name of it: person, dog|puppy, grass"
_EMPTY = (
    '<div style="padding: 20vh 0; text-align: center; opacity: 0.6">The result appears here.</div>'
)
_BACKGROUNDS = [
    ("no: every pixel gets a class", "none"),
    ("what its own words find", "words"),
    ("where every score is low", "threshold"),
]
# In seconds: then what visitors have uploaded is deleted, and their results are forgotten.
_KEEP = 3600
_MAX_UPLOAD = "50mb"
# Visitors who wait for the model.
_MAX_WAITING = 32


def build_page(
    segmenter: PhotoSegmenter,
    *,
    names: str,
    background: str = "none",
    threshold: float = 0.5,
    description: str = "",
    examples: Sequence[tuple[np.ndarray, str]] = (),
) -> gr.Blocks:
    """Builds the page.

    Args:
        segmenter: the model, which sees one photo at a time.
        names: class names to begin with, as all that follow.
        background: ``none``, ``words`` or ``threshold``.
        threshold: of the background, in [0, 1].
        description: of the model, one line.
        examples: photos (H, W, 3) uint8, RGB, and class names that suit them.
    """

    def segment(
        photo: str | None,
        names: str,
        background: str,
        threshold: float,
        opacity: float,
        request: gr.Request,
    ) -> tuple:
        try:
            result = segmenter.segment(photo, names, background, threshold)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            # A photo too large for the memory is a RuntimeError of torch.
            raise gr.Error(str(error), print_exception=False) from error
        areas = result.areas()
        shown = gr.CheckboxGroup(choices=[*areas], value=[*areas], visible=True)
        return result, shown, *draw(result, [*areas], opacity, request)

    def draw(
        result: SegmentedImage | None, shown: list[str], opacity: float, request: gr.Request
    ) -> tuple[str, Any]:
        if result is None:
            return _EMPTY, gr.Files(visible=False)
        left, overlay = shown_overlay(result, shown, opacity)
        # Gradio copies the files before it gives them away.
        folder = visitor_folder(request)
        folder.mkdir(exist_ok=True)
        paths = write_downloads(folder, result, left, opacity)
        return overlay_html(left, overlay), gr.Files(paths, visible=True, interactive=False)

    def visitor_folder(request: gr.Request) -> Path:
        # The visitor's program chooses the hash, which could be a path like any text.
        own = hashlib.sha256(str(request.session_hash).encode(errors="replace"))
        return Path(files.name, own.hexdigest())

    def leave(request: gr.Request) -> None:
        shutil.rmtree(visitor_folder(request), ignore_errors=True)

    # Goes with the page.
    files = tempfile.TemporaryDirectory(prefix="escnet_d2_")
    paths = [str(Path(files.name, f"example_{number}.png")) for number in range(len(examples))]
    for path, (pixels, _) in zip(paths, examples):
        Image.fromarray(pixels).save(path)
    with gr.Blocks(title="escnet_d2", analytics_enabled=False, delete_cache=(_KEEP, _KEEP)) as page:
        result = gr.State(time_to_live=_KEEP)
        gr.Markdown(f"{_TITLE}\n\n{description}")
        with gr.Row():
            with gr.Column(scale=2):
                photo = gr.Image(
                    label="Photo",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard", "webcam"],
                    height=300,
                    elem_id="photo",
                )
                # Passed on unread, so that files that are no pictures are refused in plain words.
                photo.preprocess = partial(_uploaded_file, Path(photo.GRADIO_CACHE))
                text = gr.Textbox(
                    names, label="What to look for", info=_HINT, lines=3, elem_id="names"
                )
                button = gr.Button("Segment", variant="primary", elem_id="segment")
                with gr.Accordion("Options", open=False):
                    chosen_background = gr.Radio(_BACKGROUNDS, value=background, label="Background")
                    chosen_threshold = gr.Slider(0, 1, threshold, label="This score is low")
                if examples:
                    rows = [[path, suited] for path, (_, suited) in zip(paths, examples)]
                    # Not gr.Examples, which replaces the components that it fills.
                    given = gr.Dataset(components=[photo, text], samples=rows, label="Examples")
            with gr.Column(scale=3):
                view = gr.HTML(_EMPTY, elem_id="view")
                opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity", elem_id="opacity")
                shown = gr.CheckboxGroup(
                    label="Classes shown", visible=False, interactive=True, elem_id="shown"
                )
                downloads = gr.Files(
                    label="Downloads", visible=False, interactive=False, elem_id="downloads"
                )
        inputs = [photo, text, chosen_background, chosen_threshold, opacity]
        outputs = [result, shown, view, downloads]
        run = {
            "fn": segment,
            "inputs": inputs,
            "outputs": outputs,
            # One photo at a time, whoever asks.
            "concurrency_limit": 1,
            "concurrency_id": "model",
            "show_progress_on": [view],
        }
        button.click(**run, api_name="segment")
        photo.input(**run, api_name=False)
        for change in (opacity.release, shown.input):
            change(draw, [result, shown, opacity], [view, downloads], api_name=False)
        if examples:
            filled = given.click(lambda row: row, given, [photo, text], api_name=False)
            filled.then(**run, api_name=False)
        page.unload(leave)
    return page.queue(max_size=_MAX_WAITING)


def serve_page(page: gr.Blocks, *, host: str, port: int | None) -> None:
    """Serves a page until Ctrl-C.

    Args:
        page: of :func:`build_page`.
        host: address to listen at.
        port: by default the first that is free from 7860 on.

    Raises:
        OSError: the port is in use.
    """
    page.launch(
        server_name=host,
        server_port=port,
        max_file_size=_MAX_UPLOAD,
        show_error=True,
        footer_links=[],
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
    )


def _uploaded_file(folder: Path, uploaded: FileData | None) -> str | None:
    """Returns the path of a file; an error of one outside the folder of what visitors upload."""
    if uploaded is None:
        return None
    # The visitor's program chooses the path, and Gradio does not look at all of them.
    if folder.resolve() not in Path(uploaded.path).resolve().parents:
        raise gr.Error("This file was not uploaded.", print_exception=False)
    return uploaded.path
