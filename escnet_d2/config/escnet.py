"""Configuration keys of ESC-Net (MODEL.ESCNET, MODEL.SAM)."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_escnet_config(cfg: CfgNode) -> None:
    """Adds the keys of the ESC-Net head.

    Section and equation numbers are those of arXiv 2411.14723; where the paper is silent,
    docs/decisions.md gives the reason.

    Args:
        cfg: the node to extend in place.
    """
    cfg.MODEL.SAM = CfgNode()
    # "vit_b" (the official checkpoint, found in the cache or downloaded), a path, or "random".
    cfg.MODEL.SAM.WEIGHTS = "vit_b"
    # What makes SAM's input of CLIP's features: a file of tools/align_sam.py, or "" to start from
    # random weights.
    cfg.MODEL.SAM.ADAPTER = ""
    # False freezes SAM and the adapter.
    cfg.MODEL.SAM.TRAIN = False
    # Sizes of SAM's prompt encoder and mask decoder; the defaults are the official ones.
    cfg.MODEL.SAM.EMBED_DIM = 256
    cfg.MODEL.SAM.MASK_IN_CHANS = 16
    cfg.MODEL.SAM.DEPTH = 2
    cfg.MODEL.SAM.NUM_HEADS = 8
    cfg.MODEL.SAM.MLP_DIM = 2048
    # Number of mask tokens that SAM's decoder holds (one for a single mask, three for ambiguity).
    cfg.MODEL.SAM.NUM_MASK_TOKENS = 4

    cfg.MODEL.ESCNET = CfgNode()
    # N of the paper: how many ESC-Blocks refine the correlation.
    cfg.MODEL.ESCNET.NUM_BLOCKS = 4

    # -- pseudo prompt generator --
    # Probability map: "relative" is a class's probability over that of the likeliest class at the
    # pixel; "class" is a softmax over the classes at each pixel, which shrinks as K grows;
    # "spatial" is a softmax over the pixels of each class, divided by its maximum.
    cfg.MODEL.ESCNET.SOFTMAX = "relative"
    # alpha of the paper: pixels with at least this probability are foreground.
    cfg.MODEL.ESCNET.ALPHA = 0.8
    # N_o of the paper: k-means regions, and so pseudo points, of one class (1 to 8).
    cfg.MODEL.ESCNET.NUM_POINTS = 5
    # Lloyd iterations at most; stops earlier when no center moves.
    cfg.MODEL.ESCNET.KMEANS_ITERATIONS = 10
    # Which pseudo prompts of a class SAM gets: any of "point", "mask" (paper: both). The mask may
    # show parts of things, and SAM keeps to it.
    cfg.MODEL.ESCNET.PROMPTS = ["point"]
    # How SAM's blocks reach the answer: any of "guidance" (the refined features, fused over the
    # classes, as in the paper), "pooling" (means inside SAM's masks), "features" and "masks" (each
    # class's own, added to its correlation).
    cfg.MODEL.ESCNET.SAM_OUTPUTS = ["guidance", "pooling"]
    # In training, share of the images that get no prompts at all, so that the rest of the model
    # does not come to need SAM.
    cfg.MODEL.ESCNET.PROMPT_DROPOUT = 0.0
    # False leaves the SAM block out of every ESC-Block (the paper's ablation).
    cfg.MODEL.ESCNET.USE_SAM = True

    # -- vision-language fusion --
    # Channels of the embedded correlation, which passes from block to block.
    cfg.MODEL.ESCNET.EMBED_DIM = 128
    # Kernel of the convolution that embeds the correlation.
    cfg.MODEL.ESCNET.EMBED_KERNEL = 7
    # Channels of the projected image features (Swin) and text features (class attention).
    cfg.MODEL.ESCNET.IMAGE_GUIDANCE_DIM = 128
    cfg.MODEL.ESCNET.TEXT_GUIDANCE_DIM = 128
    # Window of the Swin pair in patches; smaller grids use one window.
    cfg.MODEL.ESCNET.WINDOW_SIZE = 12
    cfg.MODEL.ESCNET.NUM_HEADS = 4
    cfg.MODEL.ESCNET.MLP_RATIO = 4.0

    # -- decoder --
    # Channels after each of the two upsamplings, and of the projected CLIP skips joined there.
    cfg.MODEL.ESCNET.DECODER_DIMS = [64, 32]
    cfg.MODEL.ESCNET.SKIP_DIMS = [32, 16]

    # -- loss --
    # "bce": one sigmoid per class, as in the CAT-Seg release; "ce": softmax over the classes.
    cfg.MODEL.ESCNET.LOSS = "bce"
    # Unlabeled pixels under "bce": "negative" of every class as in the CAT-Seg release, "skip", or
    # "auto": "skip" where all of DATASETS.TRAIN are folders of one's own, else "negative".
    cfg.MODEL.ESCNET.UNLABELLED = "auto"
    # Weight of a cross-entropy on the map that each later PPG reads, at the patch grid, divided by
    # the number of classes as "bce" is; 0 is off.
    cfg.MODEL.ESCNET.AUX_LOSS_WEIGHT = 0.1

    # -- cost --
    # Classes computed at a time; 0 means all, -1 all on GPUs and 8 on CPUs, where maps that stay
    # in the cache are faster. Equal results and, in inference, less memory.
    cfg.MODEL.ESCNET.CLASS_CHUNK_SIZE = -1
    # Recompute each ESC-Block's fusion and the decoder in the backward pass instead of keeping what
    # it needs: equal gradients, a small part of the memory, more time.
    cfg.MODEL.ESCNET.GRADIENT_CHECKPOINTING = False
    # In training, compute only this many classes per image: those in it, then for one half the
    # absent ones with the highest correlation, for the other half any of the MAX_CLASSES
    # likeliest, which are those that compete in testing; 0 computes all.
    cfg.MODEL.ESCNET.TRAIN_CLASSES = 0
    # In testing, keep only this many classes per image, the ones with the highest correlation
    # anywhere in it; the others score 0. Exact below that number; 0 keeps all.
    cfg.MODEL.ESCNET.MAX_CLASSES = 256
    # In testing, keep of each image only the classes with the most votes that together have this
    # share of them, in (0, 1]: each window of 5 x 5 patches votes for its three best. An image then
    # costs what it shows, and MAX_CLASSES stays the limit; 1 keeps all. docs/decisions.md has what
    # it did to a model that trained on few classes at a time.
    cfg.MODEL.ESCNET.VOTES_KEPT = 1.0
