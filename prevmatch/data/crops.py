"""Geometry on the CPU: the weak view's random scale, crop and flip in a single resampling of the pixels."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from prevmatch.config import IGNORE_INDEX


@dataclass(frozen=True)
class Crop:
    """Where a square crop lies in a scaled image, and whether it is mirrored."""

    size: int
    """Side of the crop in pixels."""
    width: int
    """Width of the whole image after scaling."""
    height: int
    """Height of the whole image after scaling."""
    left: int
    top: int
    flip: bool


def draw_crop(
    rng: np.random.Generator, width: int, height: int, size: int, scale_range: tuple[float, float] = (0.5, 2.0)
) -> Crop:
    """Draw a crop as UniMatch does.

    The long side becomes an integer drawn uniformly from `scale_range` times its length; an image smaller than the
    crop is padded at the right and below; position uniform, flip with probability 1/2.
    """
    long = max(width, height)
    new = max(1, int(rng.integers(int(long * scale_range[0]), int(long * scale_range[1]) + 1)))
    width, height = (max(1, int(side * new / long + 0.5)) for side in (width, height))
    left = int(rng.integers(0, max(width - size, 0) + 1))
    top = int(rng.integers(0, max(height - size, 0) + 1))
    return Crop(size, width, height, left, top, bool(rng.random() < 0.5))


def fitted_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Width and height at which an image of `size` has a long side of `long_side` pixels."""
    scale = long_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def crop_image(image: Image.Image, crop: Crop) -> np.ndarray:
    """Cut the crop out of an RGB image: uint8 (3, size, size), padded with 0."""
    width, height = _visible(crop)
    # The crop's window in the coordinates of the file: PIL then scales only the pixels that are kept, to the same
    # values as scaling the whole image first.
    x, y = image.width / crop.width, image.height / crop.height
    right, bottom = min((crop.left + width) * x, image.width), min((crop.top + height) * y, image.height)
    box = (crop.left * x, crop.top * y, right, bottom)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    return np.ascontiguousarray(_place(pixels, crop, 0).transpose(2, 0, 1))


def crop_mask(mask: Image.Image, crop: Crop) -> np.ndarray:
    """Cut the crop out of a mask of class ids: uint8 (size, size), padded with 255."""
    width, height = _visible(crop)
    columns = _nearest(mask.width, crop.width)[crop.left : crop.left + width]
    rows = _nearest(mask.height, crop.height)[crop.top : crop.top + height]
    return np.ascontiguousarray(_place(np.asarray(mask)[rows[:, None], columns], crop, IGNORE_INDEX))


def crop_valid(crop: Crop) -> np.ndarray:
    """Map of the crop's real pixels: bool (size, size), False on padding."""
    width, height = _visible(crop)
    return np.ascontiguousarray(_place(np.ones((height, width), dtype=bool), crop, False))


def _nearest(old: int, new: int) -> np.ndarray:
    """Which of `old` pixels each of `new` ones shows: what PIL's nearest resize of the whole image takes.

    PIL adds up the positions, which decides samples that fall between two pixels; its resize with a box does not.
    """
    scale = old / new
    return np.cumsum(np.r_[scale * 0.5, np.full(new - 1, scale)]).astype(int).clip(max=old - 1)


def _visible(crop: Crop) -> tuple[int, int]:
    """Width and height of the part of the crop that shows the image."""
    return min(crop.size, crop.width - crop.left), min(crop.size, crop.height - crop.top)


def _place(pixels: np.ndarray, crop: Crop, fill: int) -> np.ndarray:
    """Pad (H, W) or (H, W, C) at the right and below to the crop's size; mirror if it is to be.

    What needs neither is returned as it is; the caller makes the one copy that is needed.
    """
    padding = [(0, crop.size - pixels.shape[0]), (0, crop.size - pixels.shape[1]), (0, 0)]
    if pixels.shape[:2] != (crop.size, crop.size):
        pixels = np.pad(pixels, padding[: pixels.ndim], constant_values=fill)
    return pixels[:, ::-1] if crop.flip else pixels
