"""Geometry of the weak view, on the CPU: random scale, crop and flip in a single resampling of the pixels."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from prevmatch.data.sources import IGNORE_INDEX


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
    """Draw a crop as UniMatch does (method.md, section 1).

    The long side becomes an integer drawn uniformly from `scale_range` times its length; an image smaller than the
    crop is padded at the right and below; position uniform, flip with probability 1/2.
    """
    long = max(width, height)
    new = max(1, int(rng.integers(int(long * scale_range[0]), int(long * scale_range[1]) + 1)))
    width, height = (max(1, int(side * new / long + 0.5)) for side in (width, height))
    left = int(rng.integers(0, max(width - size, 0) + 1))
    top = int(rng.integers(0, max(height - size, 0) + 1))
    return Crop(size, width, height, left, top, bool(rng.random() < 0.5))


def crop_image(image: Image.Image, crop: Crop) -> np.ndarray:
    """Cut the crop out of an RGB image: uint8 (3, size, size), padded with 0."""
    return np.ascontiguousarray(_cut(image, crop, Image.Resampling.BILINEAR, 0).transpose(2, 0, 1))


def crop_mask(mask: Image.Image, crop: Crop) -> np.ndarray:
    """Cut the crop out of a mask of class ids: uint8 (size, size), padded with 255."""
    return _cut(mask, crop, Image.Resampling.NEAREST, IGNORE_INDEX)


def crop_valid(crop: Crop) -> np.ndarray:
    """Map of the crop's real pixels: bool (size, size), False on padding."""
    valid = np.zeros((crop.size, crop.size), dtype=bool)
    valid[: crop.height - crop.top, : crop.width - crop.left] = True
    return np.ascontiguousarray(valid[:, ::-1]) if crop.flip else valid


def _cut(image: Image.Image, crop: Crop, resampling: Image.Resampling, fill: int) -> np.ndarray:
    width, height = min(crop.size, crop.width - crop.left), min(crop.size, crop.height - crop.top)
    # The crop's window in the coordinates of the file: PIL then scales only the pixels that are kept, to the same
    # values as scaling the whole image first.
    x, y = image.width / crop.width, image.height / crop.height
    box = (
        crop.left * x,
        crop.top * y,
        min((crop.left + width) * x, image.width),
        min((crop.top + height) * y, image.height),
    )
    pixels = np.asarray(image.resize((width, height), resampling, box))
    padding = [(0, crop.size - height), (0, crop.size - width), (0, 0)]
    pixels = np.pad(pixels, padding[: pixels.ndim], constant_values=fill)
    return np.ascontiguousarray(pixels[:, ::-1]) if crop.flip else pixels
