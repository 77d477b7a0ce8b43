"""Sentences that a class name is put into."""

from __future__ import annotations

from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

# CAT-Seg's sentence; no full stop.
_SINGLE = ("A photo of a {} in the scene",)

# The subset of ViLD's templates that SAN, ODISE and FC-CLIP share.
_SIZES = ("small", "medium", "large")
_VILD = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    *(f"a photo of a {size} {{}}." for size in _SIZES),
    *(f"This is a photo of a {size} {{}}." for size in _SIZES),
    *(f"There is a {size} {{}} in the scene." for size in _SIZES),
)

_TEMPLATES = {
    "single": _SINGLE,
    "vild": _VILD,
    # open_clip keeps these as functions of the name.
    "imagenet": tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES),
}


def prompt_templates(name: str) -> tuple[str, ...]:
    """Looks up a set of templates; each has one ``{}`` for the class name.

    Args:
        name: "single", "imagenet" or "vild".

    Raises:
        ValueError: another name.
    """
    if name not in _TEMPLATES:
        raise ValueError(
            f"MODEL.CLIP.TEMPLATES must be one of {', '.join(_TEMPLATES)}, got {name!r}."
        )
    return _TEMPLATES[name]
