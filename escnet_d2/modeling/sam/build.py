"""SAM blocks from the configuration and an official checkpoint."""

from __future__ import annotations

from detectron2.config import CfgNode
from segment_anything.modeling import PromptEncoder, TwoWayTransformer

from escnet_d2.weights import WeightsError, load_state_dict, sam_weights_file

from .sam_block import SamBlock

# Sizes of the official models; here they only name the frame of the coordinates.
_NOMINAL_IMAGE = (1024, 1024)
_NOMINAL_GRID = (64, 64)
PROMPT_TYPES = ("point", "mask")


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
    return blocks


def _build_sam_block(cfg: CfgNode) -> SamBlock:
    node = cfg.MODEL.SAM
    return SamBlock(
        prompt_encoder=PromptEncoder(
            embed_dim=node.EMBED_DIM,
            image_embedding_size=_NOMINAL_GRID,
            input_image_size=_NOMINAL_IMAGE,
            mask_in_chans=node.MASK_IN_CHANS,
        ),
        transformer=TwoWayTransformer(
            depth=node.DEPTH,
            embedding_dim=node.EMBED_DIM,
            num_heads=node.NUM_HEADS,
            mlp_dim=node.MLP_DIM,
        ),
        num_mask_tokens=node.NUM_MASK_TOKENS,
        use_points="point" in cfg.MODEL.ESCNET.PROMPTS,
        use_masks="mask" in cfg.MODEL.ESCNET.PROMPTS,
        mask_values=cfg.MODEL.ESCNET.MASK_VALUES,
    )


def _load(blocks: list[SamBlock], node: CfgNode) -> None:
    path = sam_weights_file(node.WEIGHTS)
    tensors, names = load_state_dict(path), blocks[0].state_dict()
    missing = [name for name in names if name not in tensors]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsError(f"{path} is not a complete SAM checkpoint: it lacks {missing[0]}{more}.")
    # SAM's image encoder and mask heads have no place in a block.
    weights = {name: tensors[name] for name in names}
    for block in blocks:
        try:
            block.load_state_dict(weights)
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit the sizes of MODEL.SAM: {error}") from error
