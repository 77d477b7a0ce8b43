"""Configuration keys that any open-vocabulary method of this package shares."""

from __future__ import annotations

from detectron2.config import CfgNode

from escnet_d2.structures.vocabulary import DEFAULT_BACKGROUND_WORDS


def add_ovseg_config(cfg: CfgNode) -> None:
    """Adds the keys of vocabulary, CLIP, input, solver and test to Detectron2's defaults.

    Args:
        cfg: the node to extend in place.
    """
    # One of those in methods.py, which says what a method makes of the defaults below.
    cfg.MODEL.META_ARCHITECTURE = "ESCNet"
    _add_vocabulary_config(cfg)
    _add_clip_config(cfg)
    _add_input_config(cfg)
    _add_solver_config(cfg)
    _add_test_config(cfg)


def _add_vocabulary_config(cfg: CfgNode) -> None:
    cfg.VOCABULARY = CfgNode()
    # Class list used in training / testing instead of the data set's own names: a text or JSON file
    # as in the CAT-Seg and SED releases, whose length must equal the data set's number of classes;
    # or a release ("catseg", "san", "fcclip", "mess"): its own list for each data set.
    cfg.VOCABULARY.TRAIN = ""
    cfg.VOCABULARY.TEST = ""
    # What further names of a class ("couch, sofa") do: "first", "mean" or "max"; "auto" is what the
    # method's release does, "mean" for SED and "first" for all others.
    cfg.VOCABULARY.SYNONYMS = "auto"
    # "none", "words" or "threshold"; data sets are always evaluated with "none". The demo and
    # OpenVocabPredictor append one background class for the others.
    cfg.VOCABULARY.BACKGROUND = "none"
    # Words that compete for the background class ("words").
    cfg.VOCABULARY.BACKGROUND_WORDS = list(DEFAULT_BACKGROUND_WORDS)
    # A pixel is background where every class scores below this, in [0, 1] ("threshold").
    cfg.VOCABULARY.BACKGROUND_THRESHOLD = 0.5


def _add_clip_config(cfg: CfgNode) -> None:
    cfg.MODEL.CLIP = CfgNode()
    # An open_clip model with a plain ViT image tower, or "escnet_tiny" (ours, for CPU and tests).
    cfg.MODEL.CLIP.NAME = "ViT-B-16-quickgelu"
    # A path, an open_clip pre-training tag such as "openai", or "random".
    cfg.MODEL.CLIP.WEIGHTS = "openai"
    # Side in pixels of the square that CLIP sees; a multiple of the patch size (384 / 16 = 24
    # patches).
    cfg.MODEL.CLIP.RESOLUTION = 384
    # Whole images: "squash" to the square (as in training and in CAT-Seg), or "keep" the aspect
    # ratio at the same area.
    cfg.MODEL.CLIP.ASPECT = "squash"
    # Which CLIP weights train: "attention" (q and v projections of both towers), "full" or "none".
    cfg.MODEL.CLIP.FINETUNE = "attention"
    # Residual of the last block's value path: "cls" adds the class token's input to every patch, as
    # the CAT-Seg release does, so that its checkpoints fit; "token" adds each patch's own input.
    cfg.MODEL.CLIP.DENSE_RESIDUAL = "cls"
    # Image blocks (0-based) whose outputs are the decoder's skips, shallow to deep.
    cfg.MODEL.CLIP.INTERMEDIATE_BLOCKS = [3, 7]
    # Prompt templates: "single", "imagenet" (80) or "vild" (14, as SAN and FC-CLIP use).
    cfg.MODEL.CLIP.TEMPLATES = "single"
    # Embeddings of several templates: "mean" averages them (P = 1), "channels" keeps one
    # correlation map per template (P = their number), which fixes the first convolution's input.
    cfg.MODEL.CLIP.TEMPLATE_ENSEMBLE = "mean"
    # Prompts per forward pass of the text encoder.
    cfg.MODEL.CLIP.TEXT_BATCH_SIZE = 256
    # Recompute the activations of both towers of CLIP in the backward pass to save memory.
    cfg.MODEL.CLIP.GRADIENT_CHECKPOINTING = False
    # Products of float32 matrices, for torch.set_float32_matmul_precision: "highest", "high" (TF32
    # on GPUs that have it, as the CAT-Seg release trains and tests) or "medium".
    cfg.MODEL.FLOAT32_MATMUL = "highest"
    # torch.compile for blocks, decoder and CLIP's image tower; equal up to rounding. Takes minutes
    # at first and again where sizes change, and a C++ compiler on CPUs.
    cfg.MODEL.COMPILE = False


def _add_input_config(cfg: CfgNode) -> None:
    # Photometric distortion of the SSD detector (brightness, contrast, saturation, hue).
    cfg.INPUT.COLOR_AUG_SSD = False
    # Re-draw a training crop in which one class covers more than this share of the labeled area.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    # CLIP reads RGB.
    cfg.INPUT.FORMAT = "RGB"
    # Folders prepared by tools/prepare_folder_dataset.py; each registers its splits as data sets
    # named "<name>_<split>".
    cfg.DATASETS.FOLDERS = ()


def _add_solver_config(cfg: CfgNode) -> None:
    cfg.SOLVER.OPTIMIZER = "AdamW"
    # Learning rate of CLIP's and the SAM blocks' weights relative to BASE_LR
    # (ESC-Net section 4.1: 2e-6 against 2e-4).
    cfg.SOLVER.CLIP_MULTIPLIER = 0.01
    cfg.SOLVER.SAM_MULTIPLIER = 0.01
    # Weight decay of embeddings and position encodings; norms take WEIGHT_DECAY_NORM.
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    # Exponent of the learning rate under SOLVER.LR_SCHEDULER_NAME "WarmupPolyLR", and the share of
    # BASE_LR that it does not fall below.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    # Mini-batches whose gradients are summed into one optimizer step; IMS_PER_BATCH counts the
    # images of one mini-batch over all processes.
    cfg.SOLVER.GRAD_ACCUM_STEPS = 1
    # "float16" (with loss scaling) or "bfloat16", in training under SOLVER.AMP.ENABLED.
    cfg.SOLVER.AMP.DTYPE = "float16"


def _add_test_config(cfg: CfgNode) -> None:
    # Images per forward pass in evaluation, on each process.
    cfg.TEST.IMS_PER_BATCH = 1
    # Precision of inference: "float32", "float16" or "bfloat16".
    cfg.TEST.DTYPE = "float32"
    # Slide a window over the image and average with a view of the whole image.
    cfg.TEST.SLIDING_WINDOW = False
    # Height and width to which the image is resized first; (0, 0) leaves it to the method: the size
    # that the data mapper gave it (INPUT.MIN_SIZE_TEST), in CATSeg the release's (640, 640).
    cfg.TEST.WINDOW_IMAGE_SIZE = (0, 0)
    # Side of the window in pixels of that image; 0 leaves it to the method: the side that CLIP
    # sees, in CATSeg the release's 384.
    cfg.TEST.WINDOW_SIZE = 0
    # Share of a window that overlaps its neighbor, in [0, 1).
    cfg.TEST.WINDOW_OVERLAP = 1 / 3
    # Average with the prediction for the whole image.
    cfg.TEST.WINDOW_GLOBAL_VIEW = True
    # Windows per forward pass.
    cfg.TEST.WINDOW_BATCH_SIZE = 8
    # Return label and score maps ("label_map", "score_map") instead of "sem_seg": never holds
    # K x H x W at the size of the image. The commands always do.
    cfg.TEST.LABEL_MAP_ONLY = False
    # Boundary IoU: width of the band as a share of the image diagonal (Cheng et al., CVPR 2021).
    cfg.TEST.BOUNDARY_DILATION = 0.02
