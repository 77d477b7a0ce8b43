"""Facts that a configuration leaves to the method, one entry for each meta-architecture."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode

from .checks import check_choice


@dataclass(frozen=True)
class Method:
    """Facts about a method that several rooms need.

    Attributes:
        synonyms: a VOCABULARY.SYNONYMS of "auto".
        has_class_files: MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON and TEST_CLASS_JSON name its class
            lists, as in its release.
        window_size: a TEST.WINDOW_SIZE of 0; 0 is the side that CLIP sees.
        window_image_size: a TEST.WINDOW_IMAGE_SIZE of (0, 0); (0, 0) is the image's own size.
        slides_window: its published scores were measured under TEST.SLIDING_WINDOW.
        has_head: it has weights of its own, which only a checkpoint (MODEL.WEIGHTS) can bring.
        reads_masks: it reads masks from MODEL.MASKS.SOURCE.
    """

    synonyms: str = "first"
    has_class_files: bool = False
    window_size: int = 0
    window_image_size: tuple[int, int] = (0, 0)
    slides_window: bool = False
    has_head: bool = True
    reads_masks: bool = False


METHODS = {
    "ESCNet": Method(),
    # What the code of the releases has.
    "CATSeg": Method(
        has_class_files=True,
        window_size=384,
        window_image_size=(640, 640),
        slides_window=True,
    ),
    "SED": Method(has_class_files=True, synonyms="mean"),
    # As CATSeg, its base.
    "SAMMI": Method(
        has_class_files=True, window_size=384, window_image_size=(640, 640), reads_masks=True
    ),
    "ZeroShotCLIP": Method(has_head=False),
    "TwoStageSAM": Method(has_head=False, reads_masks=True),
}


def method_of(cfg: CfgNode) -> Method:
    """Returns the method of a configuration.

    Raises:
        ValueError: an unknown MODEL.META_ARCHITECTURE.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    check_choice("MODEL.META_ARCHITECTURE", name, METHODS)
    return METHODS[name]


def synonym_mode(cfg: CfgNode) -> str:
    """Returns VOCABULARY.SYNONYMS, the method's own for "auto"."""
    mode = cfg.VOCABULARY.SYNONYMS
    return method_of(cfg).synonyms if mode == "auto" else mode


def class_list_setting(cfg: CfgNode, *, is_train: bool) -> str:
    """Returns the class list that replaces a data set's own names; empty where none does.

    Args:
        cfg: VOCABULARY.TRAIN or VOCABULARY.TEST wins; MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON or
            TEST_CLASS_JSON is used instead for the methods whose releases have them.
        is_train: training or testing.
    """
    own = cfg.VOCABULARY.TRAIN if is_train else cfg.VOCABULARY.TEST
    if own or not method_of(cfg).has_class_files:
        return own
    head = cfg.MODEL.SEM_SEG_HEAD
    return head.TRAIN_CLASS_JSON if is_train else head.TEST_CLASS_JSON
