"""Keys that exist so that configuration files of the releases load, and change nothing."""

from __future__ import annotations

_DEEPLAB = "of Detectron2's project DeepLab, no model of which is built"
# Key, or node with all keys below it, to the reason.
UNUSED_KEYS = {
    "DATASETS.VAL_ALL": "no code of the releases reads it",
    "INPUT.DATASET_MAPPER_NAME": "there is one mapper, which does what mask_former_semantic does",
    "MODEL.ENC": "of a backbone that SED builds and deletes",
    "MODEL.PROMPT_ENSEMBLE": "no code of the releases reads it",
    "MODEL.RESNETS.RES4_DILATION": _DEEPLAB,
    "MODEL.RESNETS.RES5_MULTI_GRID": _DEEPLAB,
    "MODEL.RESNETS.STEM_TYPE": _DEEPLAB,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": _DEEPLAB,
    "MODEL.SEM_SEG_HEAD.ASPP_DILATIONS": _DEEPLAB,
    "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT": _DEEPLAB,
    "MODEL.SEM_SEG_HEAD.LOSS_TYPE": _DEEPLAB,
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS": _DEEPLAB,
    "MODEL.SEM_SEG_HEAD.PROJECT_FEATURES": _DEEPLAB,
    "MODEL.SEM_SEG_HEAD.TEST_CLASS_INDEXES": "no code of the releases reads it",
    "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_INDEXES": "no code of the releases reads it",
    "MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV": _DEEPLAB,
    "MODEL.SWIN": "of a backbone that neither release builds",
    "SOLVER.BACKBONE_MULTIPLIER": "there is no backbone beside CLIP",
}
