"""Configuration keys of masks and of what reads them (MODEL.MASKS, MODEL.SAM_MI)."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_sam_mi_config(cfg: CfgNode) -> None:
    """Adds the keys of SAMMI and TwoStageSAM.

    No code of SAM-MI (arXiv 2511.20027) is public, nor are its equations: docs/sam_mi.md says which
    values are the paper's and which are ours.

    Args:
        cfg: the node to extend in place, after :func:`add_escnet_config`, whose MODEL.SAM names
            SAM's weights, and :func:`add_baseline_config`, whose MODEL.SEM_SEG_HEAD is the base.
    """
    masks = cfg.MODEL.MASKS = CfgNode()
    # "sam": SAM at points chosen by the point prompter's class map (TwoStageSAM: by CLIP's own).
    # "grid": SAM at a dense grid. "file": files in DIR. "truth": the connected regions of the label
    # map, for upper bounds and tests.
    masks.SOURCE = "sam"
    # Of "file": DIR/<image file name without its suffix>.json as SAM's generator or
    # tools/precompute_masks.py write it, or .png with the number of a region at each pixel.
    masks.DIR = ""
    # Most points of "sam": 4 % of the grid's.
    masks.NUM_POINTS = 41
    # Points on each side of "grid".
    masks.GRID_SIDE = 32
    # SAM's three masks for each point, or its one mask without ambiguity.
    masks.MULTIMASK = True
    # What SAM's automatic generator filters by: expected IoU and stability (0 keeps all), and the
    # IoU of boxes above which the worse of two masks goes.
    masks.IOU_THRESHOLD = 0.88
    masks.STABILITY_THRESHOLD = 0.95
    masks.NMS_THRESHOLD = 0.7
    # Points that SAM's decoder sees at a time.
    masks.POINTS_PER_BATCH = 64
    # Share of the masks that are broken on purpose: shifted, merged, split or dropped.
    masks.NOISE = 0.0

    node = cfg.MODEL.SAM_MI = CfgNode()
    # Weight of the point prompter's cross-entropy at the patch grid.
    node.PROMPTER_LOSS_WEIGHT = 0.1
    # Shallow mask aggregation: merges masks that touch, or of which one holds most of the other,
    # where their mean features are alike: "shallow" or "deep" features of CLIP, or "none".
    node.AGGREGATION = "shallow"
    # Smallest cosine of any two masks that are merged; the mean over the image is taken off first.
    node.AGGREGATION_THRESHOLD = 0.6
    # Low frequency: any of "intra" (means inside masks) and "inter" (attention to all masks).
    node.LOW = ["intra", "inter"]
    # Where: at the "input" of the aggregation layers, their "output", or both.
    node.LOW_AT = ["input", "output"]
    # High frequency, after both upsamplings: what a mask's mean leaves over ("mask"), the borders
    # of masks ("edge"), or "none".
    node.HIGH = "mask"
