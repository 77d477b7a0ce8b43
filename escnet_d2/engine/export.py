"""A model with a fixed vocabulary as one file, which runs without this package where it can.

Shapes: B images, h x w pixels that CLIP sees, h' x w' cells of the scores.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.export import ExportedProgram

from escnet_d2.config import check_choice
from escnet_d2.io.atomic import atomic_path
from escnet_d2.structures import Vocabulary

SUFFIXES = (".pt2", ".onnx")
# Name of the description in a file: of torch.export's extra files, or in ONNX's metadata.
DESCRIPTION = "escnet_d2.json"


class FixedVocabularyModel(nn.Module):
    """A segmentor of one vocabulary: images in, scores out, nothing else.

    Attributes:
        example_size: (B, 3, h, w) to trace and try it with.
        any_number: whether a file of it takes any B.
    """

    def __init__(self, model: nn.Module, vocabulary: Vocabulary, num_images: int = 1) -> None:
        """Embeds the classes, and takes CLIP's text tower out of the model, which nothing needs.

        Args:
            model: ESCNet, CATSeg or SED, in eval mode; of no use for another vocabulary afterwards.
            vocabulary: the classes.
            num_images: what a file of ESCNet takes at a time; the others take any number.
        """
        super().__init__()
        self.vocabulary = vocabulary
        with torch.no_grad():
            text = model.encode_text(vocabulary.entries)
        self.register_buffer("text", text.detach().clone())
        self.model = model.requires_grad_(False)
        is_escnet = hasattr(model, "clip")
        _drop_text_tower(model.clip.model if is_escnet else model.sem_seg_head.predictor.clip_model)
        # The numbers of ESC-Net's prompt sets follow from the images, and a graph has as many of
        # these numbers as it was traced with.
        side = model.resolution
        self.any_number = not is_escnet
        self.example_size = (num_images, 3, side, side) if is_escnet else (2, 3, *side)

    def forward(self, images: Tensor) -> Tensor:
        """Scores images.

        Args:
            images: RGB, 0 to 255, float32 (B, 3, h, w).

        Returns:
            Scores in [0, 1], float32 (B, classes, h', w').
        """
        views = (images - self.model.pixel_mean) / self.model.pixel_std
        return self.model.score_views(views, self.text, self.vocabulary)


def check_exportable(cfg: CfgNode, path: Path, num_images: int = 1) -> None:
    """Refuses what a file cannot hold, before a model is built.

    Args:
        cfg: of the model.
        path: the file.
        num_images: what it is to take at a time.

    Raises:
        ValueError: another suffix than that of a format, a number of images that is not above 0 or
            not needed, or a model that no such file holds.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: the file must end in {' or '.join(SUFFIXES)}.")
    method = cfg.MODEL.META_ARCHITECTURE
    if method == "SAMMI":
        raise ValueError(
            "MODEL.META_ARCHITECTURE SAMMI cannot be exported: it reads masks that SAM finds in "
            "each image, outside of the model."
        )
    check_choice("MODEL.META_ARCHITECTURE", method, ("ESCNet", "CATSeg", "SED"))
    if num_images < 1:
        raise ValueError(f"--images must be 1 or more, got {num_images}.")
    if num_images > 1 and method != "ESCNet":
        raise ValueError(f"--images must be left out: a file of {method} takes any number.")
    if method == "ESCNet" and cfg.MODEL.ESCNET.VOTES_KEPT < 1:
        raise ValueError(
            "MODEL.ESCNET.VOTES_KEPT must be 1.0: how many classes it keeps depends on the image."
        )
    if method == "SED" and cfg.TEST.FAST_INFERENCE:
        raise ValueError("TEST.FAST_INFERENCE must be False: what it drops depends on the image.")
    if method == "ESCNet" and cfg.MODEL.ESCNET.USE_SAM and path.suffix == ".onnx":
        raise ValueError(
            f"{path}: ONNX has no operator for ESC-Net's k-means. Write a .pt2 file, or set "
            "MODEL.ESCNET.USE_SAM False."
        )


# Keys to trace a model under. All classes in one pass: loops over chunks of them would be written
# out one after the other.
TRACED = (
    *("MODEL.ESCNET.CLASS_CHUNK_SIZE", 0, "TEST.CLASS_CHUNK_SIZE", 0),
    *("MODEL.COMPILE", False),
)


def export_model(model: FixedVocabularyModel, path: Path) -> dict[str, Any]:
    """Writes a model to a file and compares what the file computes with the model.

    Args:
        model: on the CPU, in eval mode, built under ``TRACED``.
        path: the file, of one of ``SUFFIXES``, which appears at the end.

    Returns:
        ``method``, ``class_names``, ``images`` and ``scores``, of which the file holds a copy in
        JSON under ``DESCRIPTION``, and ``difference``: the largest of any score of noise.

    Raises:
        ModuleNotFoundError: the packages of ONNX are missing.
    """
    # Of the sizes only the number of images: the windows of the attention are loops over h and w.
    open_sizes = {0: torch.export.Dim.DYNAMIC} if model.any_number else {}
    write = _write_pt2 if path.suffix == ".pt2" else _write_onnx
    with torch.no_grad(), atomic_path(path) as temporary:
        program = torch.export.export(
            model, (_noise(model.example_size, 0),), dynamic_shapes=(open_sizes,)
        )
        description = {
            "method": type(model.model).__name__,
            "class_names": list(model.vocabulary.class_names),
            "images": f"RGB, 0 to 255, float32 ({_sizes(program)})",
            "scores": "0 to 1, float32 (images, classes, rows, columns)",
        }
        run = write(program, temporary, json.dumps(description, ensure_ascii=False))
        images = _noise(model.example_size, 1)
        difference = float((run(images) - model(images)).abs().max())
    return {**description, "difference": difference}


def _write_pt2(program: ExportedProgram, path: Path, description: str) -> Callable:
    """Writes torch's own file; returns what it computes."""
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={DESCRIPTION: description})
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _write_onnx(program: ExportedProgram, path: Path, description: str) -> Callable:
    """Writes an ONNX file; returns what it computes."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch asks for it late, and in more than a line)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"A .onnx file needs {error.name}: pip install 'escnet-d2[export]'"
        ) from error
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    onnx = torch.onnx.export(
        program, dynamo=True, input_names=["images"], output_names=["scores"], verbose=False
    )
    onnx.model.metadata_props[DESCRIPTION] = description
    onnx.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _noise(size: tuple[int, ...], seed: int) -> Tensor:
    return 255 * torch.rand(size, generator=torch.Generator().manual_seed(seed))


def _sizes(program: ExportedProgram) -> str:
    """Returns the size of the images, with "any" for what is open."""
    (name,) = program.graph_signature.user_inputs
    (node,) = (node for node in program.graph.nodes if node.name == name)
    return ", ".join(str(x) if isinstance(x, int) else "any" for x in node.meta["val"].shape)


def _drop_text_tower(clip: nn.Module) -> None:
    for parts in (clip._modules, clip._parameters, clip._buffers):
        for name in set(parts) - {"visual", "logit_scale"}:
            del parts[name]
