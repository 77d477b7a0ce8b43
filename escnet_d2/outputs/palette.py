"""One color per class, the same in every picture, file and run."""

from __future__ import annotations

import numpy as np

MAX_CLASSES = 65535
BACKGROUND_COLOR = (128, 128, 128)

# Each as far as possible in CIELAB from gray and from all before it, among colors of a lightness
# from 40 to 90 and a chroma from 25 to 95: gray is the background's, and near-black, near-white and
# glaring colors hide the photo. RGB, six digits to a color.
_COLORS = bytes.fromhex(
    "c3f000f05affff0f2d00ffc3ffa50f0087ff3c780fb42d691ee1ffe1e196ffb4ff964b1e00e14b009678ffb4a5"
    "874ba5a5a50078a5e1785affff00a5a5f0d2ff0f69ff784ba5f07887874bffe100e1a55a00b45a006987ff7887"
    "a578a5d287ffb41ea5965a5a5ab400ff78c3b42d3c0069b4b42d00876900ffe16987c378c36900ff5a003c693c"
    "00f0e14ba5b4a596f0f096b45a5ad200ff96961ec3f0d2ffd2b48787f03c87b43c785a2dd2e14bff69e1c3960f"
    "0fc3ffd27869f04b4bff4b964bd2a55a699678b496b44b9678871e00787800a5fff00fc3b4a54b78f096b4d2ff"
    "c30f870069ffb45a780fc3c300874b7869b41e961eb4784bff871e96c300a55ae11e96c3c3f096b4a5d2ffa578"
    "ffc30fa5b487d278d25ad25a69965a9687ffe13c69874b7878f0f0ffd287c3d269ff004bc3001e96f0b4ffa54b"
    "e187c35a691ed25a4bc300c3b4f04b5a87e1ffc35a96e1fff06996c3e1b43c5ab4d20f00d2c3005aa54bb4781e"
    "c38796a5b469d2783c00b41ed2b4ff968700e1a5d2d25ae14b8769c35affa54b3c00b47869ff788787c3f04bb4"
    "ff96ffff8778a5875ad29678d28700ffc396d25a1eff4b2db44bb4d20069a54b005a9600a5b4ffa569b4783cd2"
    "9669d2a53c4bd2003c1ee196d2e10f873cb478d2c369693c3c87c3a53c1ea5873cff0087d26978b4e15a4bd21e"
    "d296f078c3f01e872d6978e14bc3e13c4be1965a3c00e169d25a96ff4b69b47869ffc3e1d2b43c87a5008769f0"
    "965a0fff969687d24b5ab4874b782de14b2dff965a87d200f0e14b5ab43cb4c30096d2a51e69e196e187e19696"
    "e10f87a5b43c69962d69d287785a8778691e3ca596ff692df0b42db46996e100a5c33c2d87f0695a5a96c396d2"
    "a5d26978f0d2b4a5695a78ff6987b400785ae13cd20f96ffe178a596692d00ff78694bb4ff6969b42d96c3965a"
    "d23c8769f0b4c3c387d2b469c34b69ff87a5f0782db4d287f0690078b41eff78ffe169d200b49669d23c78d269"
    "b45a5a4b690087a54bb487f08796ff0fb4ff78a5ffc3004be1785a2d69962da55affb4c3879669e1d278a51eb4"
    "e14b5a"
)


def class_colors(num_classes: int, *, background: int | None = None) -> np.ndarray:
    """Returns the colors of the classes.

    A class's color depends on its index only, not on how many classes there are. The first 256 are
    distinct and none is gray, black or white; further classes repeat them.

    Args:
        num_classes: K, 1 to 65535.
        background: index of a class that is shown in gray (128, 128, 128) instead.

    Returns:
        (K, 3) uint8, RGB.

    Raises:
        ValueError: K out of range.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"num_classes must be 1 to {MAX_CLASSES}, got {num_classes}.")
    table = np.frombuffer(_COLORS, np.uint8).reshape(-1, 3)
    colors = table[np.arange(num_classes) % len(table)]
    if background is not None:
        colors[background] = BACKGROUND_COLOR
    return colors
