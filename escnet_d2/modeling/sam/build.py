"""SAM, whole or as blocks, from the configuration and an official checkpoint."""

from __future__ import annotations

from detectron2.config import CfgNode
from segment_anything import sam_model_registry
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from escnet_d2.weights import (
    WeightsError,
    load_state_dict,
    model_weights_path,
    sam_weights_file,
)

from .adapter import SamAdapter
from .image_encoder import PIXEL_MEAN, PIXEL_STD, build_sam_image_encoder
from .sam_block import SamBlock

# Sizes of the official models; here they only name the frame of the coordinates.
_NOMINAL_IMAGE = (1024, 1024)
_NOMINAL_GRID = (64, 64)
PROMPT_TYPES = ("point", "mask")
# Of the official models.
_IOU_HEAD_DEPTH = 3


def build_sam_blocks(cfg: CfgNode) -> list[SamBlock]:
    """Builds MODEL.ESCNET.NUM_BLOCKS blocks, each with its own copy of SAM's weights.

    Weights are loaded unless MODEL.SAM.WEIGHTS is "random" or a checkpoint (MODEL.WEIGHTS) brings
    them.

    Raises:
        ValueError: unknown prompt types.
        WeightsError: the checkpoint is missing or of other sizes.
    """
    unknown = set(cfg.MODEL.ESCNET.PROMPTS) - set(PROMPT_TYPES)
    if unknown or not cfg.MODEL.ESCNET.PROMPTS:
        raise ValueError(
            f"MODEL.ESCNET.PROMPTS must name one or both of {', '.join(PROMPT_TYPES)}, "
            f"got {list(cfg.MODEL.ESCNET.PROMPTS)}."
        )
    blocks = [_build_sam_block(cfg) for _ in range(cfg.MODEL.ESCNET.NUM_BLOCKS)]
    if cfg.MODEL.SAM.WEIGHTS != "random" and not cfg.MODEL.WEIGHTS:
        _load(blocks, cfg.MODEL.SAM)
    if not cfg.MODEL.SAM.TRAIN:
        for block in blocks:
            block.requires_grad_(False)
    return blocks


def build_sam_adapter(cfg: CfgNode, clip_channels: int) -> SamAdapter:
    """Builds what makes SAM's input of CLIP's features; frozen together with SAM.

    Weights are loaded from MODEL.SAM.ADAPTER unless it is empty or a checkpoint (MODEL.WEIGHTS)
    brings them.

    Args:
        cfg: the configuration.
        clip_channels: of CLIP's dense and intermediate features together.

    Raises:
        ValueError: none is given for a pre-trained SAM that is frozen.
        WeightsError: the file is missing or of other sizes.
    """
    node = cfg.MODEL.SAM
    adapter = SamAdapter(clip_channels, node.EMBED_DIM)
    if not node.ADAPTER and not node.TRAIN and node.WEIGHTS != "random" and not cfg.MODEL.WEIGHTS:
        raise ValueError(
            "MODEL.SAM.ADAPTER is empty, and without it a frozen SAM understands nothing of CLIP's "
            "features: fit one by tools/align_sam.py, or train SAM with MODEL.SAM.TRAIN True."
        )
    if node.ADAPTER and not cfg.MODEL.WEIGHTS:
        path = model_weights_path(node.ADAPTER)
        try:
            adapter.load_state_dict(load_state_dict(path))
        except RuntimeError as error:
            raise WeightsError(
                f"MODEL.SAM.ADAPTER {path} was not fitted to this CLIP and SAM: {error}"
            ) from error
    return adapter.requires_grad_(node.TRAIN)


def build_mask_decoder(node: CfgNode) -> MaskDecoder:
    """Builds SAM's mask decoder at random weights, with the sizes of MODEL.SAM."""
    return MaskDecoder(
        transformer_dim=node.EMBED_DIM,
        transformer=TwoWayTransformer(
            depth=node.DEPTH,
            embedding_dim=node.EMBED_DIM,
            num_heads=node.NUM_HEADS,
            mlp_dim=node.MLP_DIM,
        ),
        num_multimask_outputs=node.NUM_MASK_TOKENS - 1,
        iou_head_depth=_IOU_HEAD_DEPTH,
        iou_head_hidden_dim=node.EMBED_DIM,
    )


def build_prompt_encoder(
    node: CfgNode, *, grid: tuple[int, int], image_size: tuple[int, int]
) -> PromptEncoder:
    """Builds SAM's prompt encoder at random weights, with the sizes of MODEL.SAM."""
    return PromptEncoder(
        embed_dim=node.EMBED_DIM,
        image_embedding_size=grid,
        input_image_size=image_size,
        mask_in_chans=node.MASK_IN_CHANS,
    )


def build_full_sam(node: CfgNode) -> Sam:
    """Builds a whole SAM from MODEL.SAM.WEIGHTS, frozen and in eval mode.

    Args:
        node: MODEL.SAM; "random" weights make an official ViT-B.

    Raises:
        WeightsError: the file is missing, or does not fit the sizes of MODEL.SAM.
    """
    if node.WEIGHTS == "random":
        return sam_model_registry["vit_b"]().eval().requires_grad_(False)
    encoder = build_sam_image_encoder(node.WEIGHTS).encoder
    side = encoder.img_size
    grid = side // encoder.patch_embed.proj.kernel_size[0]
    sam = Sam(
        image_encoder=encoder,
        prompt_encoder=build_prompt_encoder(node, grid=(grid, grid), image_size=(side, side)),
        mask_decoder=build_mask_decoder(node),
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
    )
    path = sam_weights_file(node.WEIGHTS)
    try:
        sam.load_state_dict(load_state_dict(path))
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the sizes of MODEL.SAM: {error}") from error
    return sam.eval().requires_grad_(False)


def _build_sam_block(cfg: CfgNode) -> SamBlock:
    node = cfg.MODEL.SAM
    return SamBlock(
        prompt_encoder=build_prompt_encoder(node, grid=_NOMINAL_GRID, image_size=_NOMINAL_IMAGE),
        mask_decoder=build_mask_decoder(node),
        use_points="point" in cfg.MODEL.ESCNET.PROMPTS,
        use_masks="mask" in cfg.MODEL.ESCNET.PROMPTS,
        find_masks=not {"pooling", "masks"}.isdisjoint(cfg.MODEL.ESCNET.SAM_OUTPUTS),
        alpha=cfg.MODEL.ESCNET.ALPHA,
    )


def _load(blocks: list[SamBlock], node: CfgNode) -> None:
    path = sam_weights_file(node.WEIGHTS)
    tensors, names = load_state_dict(path), blocks[0].state_dict()
    missing = [name for name in names if name not in tensors]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsError(f"{path} is not a complete SAM checkpoint: it lacks {missing[0]}{more}.")
    # SAM's image encoder has no place in a block.
    weights = {name: tensors[name] for name in names}
    for block in blocks:
        try:
            block.load_state_dict(weights)
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit the sizes of MODEL.SAM: {error}") from error
