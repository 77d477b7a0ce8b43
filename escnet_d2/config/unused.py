"""Keys that exist so that configuration files of the releases load, and change nothing."""

from __future__ import annotations

# Key, or node with all keys below it, to the reason.
UNUSED_KEYS = {
    "DATASETS.VAL_ALL": "no code of the releases reads it",
    "INPUT.DATASET_MAPPER_NAME": "there is one mapper, which does what mask_former_semantic does",
    "MODEL.ENC": "of a backbone that SED builds and deletes",
    "MODEL.PROMPT_ENSEMBLE": "no code of the releases reads it",
    "MODEL.SEM_SEG_HEAD.TEST_CLASS_INDEXES": "no code of the releases reads it",
    "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_INDEXES": "no code of the releases reads it",
    "MODEL.SWIN": "of a backbone that neither release builds",
    "SOLVER.BACKBONE_MULTIPLIER": "there is no backbone beside CLIP",
}
