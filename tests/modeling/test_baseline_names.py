"""Names and shapes of CATSeg's and SED's tensors are those of the releases' checkpoints.

The tables are written out from the shapes that the releases' programs give; nothing here looks at
our modules.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from detectron2.modeling import build_model

from escnet_d2.engine import load_config

Entry = tuple[str, tuple[int, ...]]
PREDICTOR = "sem_seg_head.predictor"


def affine(name: str, *shape: int) -> Iterator[Entry]:
    """A linear or convolution layer with bias; norms are affine(name, dim)."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def deconvolution(name: str, in_dim: int, out_dim: int, kernel: int) -> Iterator[Entry]:
    yield f"{name}.weight", (in_dim, out_dim, kernel, kernel)
    yield f"{name}.bias", (out_dim,)


def tower(name: str, *, layers: int, width: int, split: bool) -> Iterator[Entry]:
    for layer in range(layers):
        block = f"{name}.resblocks.{layer}"
        if split:
            for part in "qkv":
                yield f"{block}.attn.{part}_proj_weight", (width, width)
        else:
            yield f"{block}.attn.in_proj_weight", (3 * width, width)
        yield f"{block}.attn.in_proj_bias", (3 * width,)
        yield from affine(f"{block}.attn.out_proj", width, width)
        yield from affine(f"{block}.ln_1", width)
        yield from affine(f"{block}.mlp.c_fc", 4 * width, width)
        yield from affine(f"{block}.mlp.c_proj", width, 4 * width)
        yield from affine(f"{block}.ln_2", width)


def text(name: str, *, layers: int, width: int, embed: int, split: bool) -> Iterator[Entry]:
    yield f"{name}.positional_embedding", (77, width)
    yield f"{name}.text_projection", (width, embed)
    yield f"{name}.logit_scale", ()
    yield f"{name}.token_embedding.weight", (49408, width)
    yield from affine(f"{name}.ln_final", width)
    yield from tower(f"{name}.transformer", layers=layers, width=width, split=split)


def vit(name: str, *, layers: int, width: int, patch: int, tokens: int, embed: int):
    yield f"{name}.class_embedding", (width,)
    yield f"{name}.positional_embedding", (tokens, width)
    yield f"{name}.proj", (width, embed)
    yield f"{name}.conv1.weight", (width, 3, patch, patch)
    yield from affine(f"{name}.ln_pre", width)
    yield from affine(f"{name}.ln_post", width)
    yield from tower(f"{name}.transformer", layers=layers, width=width, split=True)


def convnext(name: str, *, dims: tuple[int, ...], depths: tuple[int, ...]) -> Iterator[Entry]:
    yield from affine(f"{name}.trunk.stem.0", dims[0], 3, 4, 4)
    yield from affine(f"{name}.trunk.stem.1", dims[0])
    for stage, (dim, depth) in enumerate(zip(dims, depths)):
        prefix = f"{name}.trunk.stages.{stage}"
        if stage:
            yield from affine(f"{prefix}.downsample.0", dims[stage - 1])
            yield from affine(f"{prefix}.downsample.1", dim, dims[stage - 1], 2, 2)
        for block in range(depth):
            yield f"{prefix}.blocks.{block}.gamma", (dim,)
            yield from affine(f"{prefix}.blocks.{block}.conv_dw", dim, 1, 7, 7)
            yield from affine(f"{prefix}.blocks.{block}.norm", dim)
            yield from affine(f"{prefix}.blocks.{block}.mlp.fc1", 4 * dim, dim)
            yield from affine(f"{prefix}.blocks.{block}.mlp.fc2", dim, 4 * dim)
    yield from affine(f"{name}.trunk.head.norm", dims[-1])


def class_attention(name: str, dim: int, guidance: int) -> Iterator[Entry]:
    for part, in_dim in (("q", dim + guidance), ("k", dim + guidance), ("v", dim)):
        yield from affine(f"{name}.attention.{part}", dim, in_dim)
    yield from affine(f"{name}.MLP.0", 4 * dim, dim)
    yield from affine(f"{name}.MLP.2", dim, 4 * dim)
    yield from affine(f"{name}.norm1", dim)
    yield from affine(f"{name}.norm2", dim)


def up(name: str, in_dim: int, out_dim: int, skip: int, joined: int) -> Iterator[Entry]:
    yield from deconvolution(f"{name}.up", in_dim, in_dim - skip, 2)
    yield f"{name}.conv.double_conv.0.weight", (out_dim, joined, 3, 3)
    yield from affine(f"{name}.conv.double_conv.1", out_dim)
    yield f"{name}.conv.double_conv.3.weight", (out_dim, out_dim, 3, 3)
    yield from affine(f"{name}.conv.double_conv.4", out_dim)


def cat_seg(*, width: int, embed: int, text_layers: int, **visual: int) -> Iterator[Entry]:
    clip, aggregator = f"{PREDICTOR}.clip_model", f"{PREDICTOR}.transformer"
    yield from text(clip, layers=text_layers, width=embed, embed=embed, split=True)
    yield from vit(f"{clip}.visual", width=width, embed=embed, **visual)
    for layer in range(2):
        swin = f"{aggregator}.layers.{layer}.swin_block"
        for block in (1, 2):
            prefix = f"{swin}.block_{block}"
            yield from affine(f"{prefix}.norm1", 128)
            for part, in_dim in (("q", 256), ("k", 256), ("v", 128), ("proj", 128)):
                yield from affine(f"{prefix}.attn.{part}", 128, in_dim)
            yield from affine(f"{prefix}.norm2", 128)
            yield from affine(f"{prefix}.mlp.fc1", 512, 128)
            yield from affine(f"{prefix}.mlp.fc2", 128, 512)
        yield f"{swin}.block_2.attn_mask", (4, 144, 144)
        yield from affine(f"{swin}.guidance_norm", 128)
        attention = f"{aggregator}.layers.{layer}.attention"
        yield f"{attention}.padding_tokens", (1, 1, 128)
        yield f"{attention}.padding_guidance", (1, 1, 128)
        yield from class_attention(attention, 128, 128)
    yield from affine(f"{aggregator}.conv1", 128, 1, 7, 7)
    yield from affine(f"{aggregator}.guidance_projection.0", 128, embed, 3, 3)
    yield from affine(f"{aggregator}.text_guidance_projection.0", 128, embed)
    yield from affine(f"{aggregator}.decoder_guidance_projection.0.0", 32, 256, 3, 3)
    yield from affine(f"{aggregator}.decoder_guidance_projection.1.0", 16, 128, 3, 3)
    yield from up(f"{aggregator}.decoder1", 128, 64, skip=32, joined=128)
    yield from up(f"{aggregator}.decoder2", 64, 32, skip=16, joined=64)
    yield from affine(f"{aggregator}.head", 1, 32, 3, 3)
    yield from deconvolution("upsample1", width, 256, 2)
    yield from deconvolution("upsample2", width, 128, 4)


def sed(*, dims: tuple[int, ...], embed: int, text_layers: int, head: list[Entry]):
    clip, decoder = f"{PREDICTOR}.clip_model", f"{PREDICTOR}.transformer"
    yield from text(clip, layers=text_layers, width=embed, embed=embed, split=False)
    yield from convnext(f"{clip}.visual", dims=dims, depths=(3, 3, 27, 3))
    for name, shape in head:
        yield f"{clip}.visual.head.{name}", shape
    yield from affine(f"{decoder}.conv1", 128, 80, 7, 7)
    channels, skips, templates = (128, 64, 32, 16), (32, 16, 8), (80, 32, 16)
    for level, skip in enumerate(skips):
        stage = dims[2 - level]
        projection = f"{decoder}.decoder_guidance_projection.{level}.0"
        yield from affine(projection, skip, stage, 3, 3)
        projection = f"{decoder}.decoder_corr_guidance_projection.{level}.0"
        yield from deconvolution(projection, templates[level], skip, 2)
        name, dim = f"{decoder}.decoder{level + 1}", channels[level]
        yield from up(name, dim, channels[level + 1], skip=skip, joined=dim + skip)
        yield f"{name}.cnext.gamma", (dim,)
        yield from affine(f"{name}.cnext.dwconv", dim, 1, 9, 9)
        yield from affine(f"{name}.cnext.norm", dim)
        yield from affine(f"{name}.cnext.pwconv1", 4 * dim, dim)
        yield from affine(f"{name}.cnext.pwconv2", dim, 4 * dim)
        yield from class_attention(f"{name}.attention", dim, 0)
    for head_name, dim in zip(("head0", "head1", "head2", "head"), channels):
        yield from affine(f"{decoder}.{head_name}", 1, dim, 3, 3)


BASE_HEAD = [("proj.weight", (640, 1024))]
LARGE_HEAD = [
    ("mlp.fc1.weight", (1536, 1536)),
    ("mlp.fc1.bias", (1536,)),
    ("mlp.fc2.weight", (768, 1536)),
]
# Configuration: the release's tensors, their number, and its parameters in all and open.
RELEASES = {
    "cat_seg_vitb16_384_bs4_80k": (
        list(cat_seg(width=768, embed=512, text_layers=12, layers=12, patch=16, tokens=197)),
        484,
        154_289_378,
        25_115_873,
    ),
    "cat_seg_vitl14_336_bs4_80k": (
        list(cat_seg(width=1024, embed=768, text_layers=12, layers=24, patch=14, tokens=577)),
        652,
        433_726_946,
        70_270_177,
    ),
    "sed_convnextb_768_bs4_80k": (
        list(sed(dims=(128, 256, 512, 1024), embed=640, text_layers=12, head=BASE_HEAD)),
        608,
        180_761_741,
        89_598_220,
    ),
    "sed_convnextl_768_bs4_80k": (
        list(sed(dims=(192, 384, 768, 1536), embed=768, text_layers=16, head=LARGE_HEAD)),
        658,
        353_245_773,
        201_243_980,
    ),
}


@pytest.mark.parametrize("config", RELEASES)
def test_names_shapes_and_parameters_are_the_releases(config):
    table, tensors, total, trainable = RELEASES[config]
    assert len(table) == len(dict(table)) == tensors
    # Names and shapes only, at once.
    cfg = load_config(config, ["MODEL.CLIP.WEIGHTS", "random"])
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == dict(table)
    parameters = dict(model.named_parameters())
    opened = {name: p for name, p in parameters.items() if p.requires_grad}
    assert sum(p.numel() for p in parameters.values()) == total
    assert sum(p.numel() for p in opened.values()) == trainable
    clip = f"{PREDICTOR}.clip_model."
    if config.startswith("cat_seg"):
        trained = {n for n in parameters if n.endswith(("q_proj_weight", "v_proj_weight"))}
    else:
        trained = {n for n in parameters if n.startswith(f"{clip}visual.")}
    assert {n for n in opened if n.startswith(clip)} == trained
