"""Sentences that a class name is put into."""

from __future__ import annotations

from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

from escnet_d2.config import check_choice

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

# CLIP's authors found these seven to do as well as all 80; CAT-Seg's sentence is the eighth.
_IMAGENET_SELECT = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    *_SINGLE,
)

_TEMPLATES = {
    "single": _SINGLE,
    "vild": _VILD,
    "imagenet_select": _IMAGENET_SELECT,
    # open_clip keeps these as functions of the name.
    "imagenet": tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES),
}


def prompt_templates(name: str, *, key: str = "MODEL.CLIP.TEMPLATES") -> tuple[str, ...]:
    """Looks up a set of templates; each has one ``{}`` for the class name.

    Args:
        name: "single", "imagenet", "imagenet_select" or "vild".
        key: the configuration key that said so, for the message.

    Raises:
        ValueError: another name.
    """
    check_choice(key, name, _TEMPLATES)
    return _TEMPLATES[name]
