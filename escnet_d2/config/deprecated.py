"""Keys that are accepted and ignored, so that files of the CAT-Seg and SED releases load."""

from __future__ import annotations

DEPRECATED_KEYS = (
    # The releases have them and read none of them, or build a backbone of them that they delete.
    "DATASETS.VAL_ALL",
    "INPUT.DATASET_MAPPER_NAME",
    "MODEL.ENC",
    "MODEL.PROMPT_ENSEMBLE",
    "MODEL.SEM_SEG_HEAD.TEST_CLASS_INDEXES",
    "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_INDEXES",
    "MODEL.SWIN",
    "SOLVER.BACKBONE_MULTIPLIER",
    # Of Detectron2's project DeepLab: in every config.yaml that a release has written.
    "MODEL.RESNETS.RES4_DILATION",
    "MODEL.RESNETS.RES5_MULTI_GRID",
    "MODEL.RESNETS.STEM_TYPE",
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS",
    "MODEL.SEM_SEG_HEAD.ASPP_DILATIONS",
    "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT",
    "MODEL.SEM_SEG_HEAD.LOSS_TYPE",
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS",
    "MODEL.SEM_SEG_HEAD.PROJECT_FEATURES",
    "MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV",
    # Ours once: cut score maps as the releases do, which makes results of small images wrong.
    "TEST.CROP_SCORE_MAP",
)
