"""Configuration keys of the SED release that CAT-Seg's does not have."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_sed_config(cfg: CfgNode) -> None:
    """Adds the keys of SED.

    Args:
        cfg: the node to extend in place, after :func:`add_cat_seg_config`.
    """
    # What refines the class maps in space: ConvNeXt blocks "V1" or "V2", or "Swin".
    cfg.MODEL.SEM_SEG_HEAD.CNEXT_TYPE = "V1"
    # Kernels of the ConvNeXt blocks, by level.
    cfg.MODEL.SEM_SEG_HEAD.KERNEL_SIZE = [7, 7, 7]
    # Early rejection: drop a class in testing where no cell has it among its TOPK best.
    cfg.TEST.FAST_INFERENCE = False
    cfg.TEST.TOPK = 1

    # A backbone that the release builds and deletes again: without effect. CLIP is chosen by
    # MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED.
    cfg.MODEL.ENC = CfgNode()
    cfg.MODEL.ENC.CLIP_MODEL_NAME = "convnext_large_d_320"
    cfg.MODEL.ENC.CLIP_PRETRAINED_WEIGHTS = "laion2b_s29b_b131k_ft_soup"
    cfg.MODEL.ENC.EMBED_DIM = 768
