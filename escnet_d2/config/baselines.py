"""Configuration keys of the CAT-Seg and SED releases, under their names and with their meaning.

The files of the releases' ``configs`` run as they are. What the releases write into their code is
the default here.
"""

from __future__ import annotations

from detectron2.config import CfgNode


def add_baseline_config(cfg: CfgNode) -> None:
    """Adds the keys of CAT-Seg and SED.

    Args:
        cfg: the node to extend in place, after :func:`add_ovseg_config`.
    """
    # Pads the image to a multiple of this before it is squashed to CLIP's resolution; the padding
    # is part of what CLIP sees. SED does so in training only.
    cfg.MODEL.MASK_FORMER = CfgNode()
    cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY = 32
    # Pixel statistics of CLIP, RGB, on the scale 0 to 255.
    cfg.MODEL.CLIP_PIXEL_MEAN = [122.7709383, 116.7460125, 104.09373615]
    cfg.MODEL.CLIP_PIXEL_STD = [68.5005327, 66.6321579, 70.3231630]
    # Sentences around a class name: "single", "imagenet" (80) or "imagenet_select" (8). Each makes
    # a correlation map of its own.
    cfg.MODEL.PROMPT_ENSEMBLE_TYPE = "single"
    # Pads training images to at least this many pixels on each side, at the right and bottom; -1
    # does not.
    cfg.INPUT.SIZE_DIVISIBILITY = -1
    _add_head_config(cfg)
    _add_test_config(cfg)


def _add_head_config(cfg: CfgNode) -> None:
    head = cfg.MODEL.SEM_SEG_HEAD
    # Class lists used in training / testing instead of the data set's own names, as
    # VOCABULARY.TRAIN and VOCABULARY.TEST, which win. Only CATSeg and SED read them.
    head.TRAIN_CLASS_JSON = ""
    head.TEST_CLASS_JSON = ""
    # CLIP: "ViT-B/16" or "ViT-L/14@336px" (CATSeg), "Convnext-B" or "Convnext-L" (SED), or the name
    # of an open_clip model. MODEL.CLIP.WEIGHTS says which weights; "openai" there stands for those
    # that the release takes.
    head.CLIP_PRETRAINED = "ViT-B/16"
    # Which of CLIP's weights train. CATSeg: "attention" (q and v projections of both towers) or
    # "full" (both towers' transformers). SED: "full" (image tower), "conv", "mlp", "full_res5" (its
    # last stage) or "fast_infer" (nothing but the heads for early rejection). Both: "none", and
    # "all", every weight of both towers, which the releases do not have.
    head.CLIP_FINETUNE = "attention"
    # Prompt tokens in CLIP's image tower: not supported, must be 0.
    head.PROMPT_DEPTH = 0
    head.PROMPT_LENGTH = 0
    # Cells (rows, columns) of CLIP's dense features; with the patch size they give the resolution
    # that CLIP sees: 24 x 16 = 384 for ViT-B/16, 24 x 32 = 768 for the ConvNeXts.
    head.FEATURE_RESOLUTION = [24, 24]
    # Channels of the text (0: no text guidance) and of its projection.
    head.TEXT_GUIDANCE_DIM = 512
    head.TEXT_GUIDANCE_PROJ_DIM = 128
    # Channels of CLIP's dense features (0: no image guidance) and of their projection.
    head.APPEARANCE_GUIDANCE_DIM = 512
    head.APPEARANCE_GUIDANCE_PROJ_DIM = 128
    # Channels after each upsampling; of the features joined there, and of their projections.
    head.DECODER_DIMS = [64, 32]
    head.DECODER_GUIDANCE_DIMS = [256, 128]
    head.DECODER_GUIDANCE_PROJ_DIMS = [32, 16]
    # How often the correlation is refined, and the sizes of the blocks that do so.
    head.NUM_LAYERS = 4
    head.NUM_HEADS = 4
    head.HIDDEN_DIMS = 128
    # Cells averaged before the attention over the classes, in training; TEST.POOLING_SIZES in
    # testing. No weight depends on them.
    head.POOLING_SIZES = [6, 6]
    # Window of the Swin blocks, in cells.
    head.WINDOW_SIZES = 12
    # Attention over the classes: "linear" or "full".
    head.ATTENTION_TYPE = "linear"
    # CATSeg: classes that the attention over them is filled up to, and that are kept where there
    # are more; 0 for neither. Not a key of the release, whose code has 256.
    head.PAD_LENGTH = 256
    # In training, look at this many classes: those in the images of a mini-batch and any others; 0
    # is all. Not a key of the releases, which look at all.
    head.TRAIN_CLASSES = 0
    # SED: what refines the class maps in space, ConvNeXt blocks "V1" or "V2", or "Swin"; and the
    # kernels of the ConvNeXt blocks, by level.
    head.CNEXT_TYPE = "V1"
    head.KERNEL_SIZE = [7, 7, 7]


def _add_test_config(cfg: CfgNode) -> None:
    # MODEL.SEM_SEG_HEAD.POOLING_SIZES in testing: the releases train with [2, 2] and were evaluated
    # with [1, 1].
    cfg.TEST.POOLING_SIZES = [1, 1]
    # CATSeg, SED and SAMMI: classes computed at a time in testing, with equal results, as
    # MODEL.ESCNET.CLASS_CHUNK_SIZE.
    cfg.TEST.CLASS_CHUNK_SIZE = -1
    # SED's early rejection: drop a class in testing where no cell has it among its TOPK best.
    cfg.TEST.FAST_INFERENCE = False
    cfg.TEST.TOPK = 1
