"""What a configuration says of vocabularies, with the keys of the CAT-Seg and SED releases."""

from __future__ import annotations

from detectron2.config import CfgNode

# Methods whose releases name class lists by MODEL.SEM_SEG_HEAD.{TRAIN,TEST}_CLASS_JSON, and what
# they do with further names of a class.
_RELEASE_SYNONYMS = {"CATSeg": "first", "SED": "mean"}


def class_list_setting(cfg: CfgNode, *, is_train: bool) -> str:
    """The class list that replaces a data set's own names; empty where none does.

    Args:
        cfg: VOCABULARY.TRAIN or VOCABULARY.TEST wins; for CATSeg and SED alone,
            MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON or TEST_CLASS_JSON stands in.
        is_train: training or testing.
    """
    own = cfg.VOCABULARY.TRAIN if is_train else cfg.VOCABULARY.TEST
    if own or cfg.MODEL.META_ARCHITECTURE not in _RELEASE_SYNONYMS:
        return own
    head = cfg.MODEL.SEM_SEG_HEAD
    return head.TRAIN_CLASS_JSON if is_train else head.TEST_CLASS_JSON


def synonym_mode(cfg: CfgNode) -> str:
    """VOCABULARY.SYNONYMS with "auto" resolved: "mean" for SED, "first" for all others."""
    mode = cfg.VOCABULARY.SYNONYMS
    if mode != "auto":
        return mode
    return _RELEASE_SYNONYMS.get(cfg.MODEL.META_ARCHITECTURE, "first")
