"""Colours for class ids."""

import numpy as np


def voc_palette(count: int = 256) -> np.ndarray:
    """The palette of PASCAL VOC, uint8 (count, 3): the bits of the id are dealt to red, green and blue in turns."""
    ids = np.arange(count, dtype=np.uint32)
    palette = np.zeros((count, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def voc_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """The first `count` colours of that palette as RGB tuples."""
    return tuple((int(r), int(g), int(b)) for r, g, b in voc_palette(count))


CITYSCAPES_PALETTE = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
    (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
"""The 19 evaluated classes of Cityscapes, in the order of their train ids."""
