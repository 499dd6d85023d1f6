"""Shapes: procedural scenes to try the trainer on; made in seconds, always the same, nothing to download.

Objects of five classes overlap on a cluttered ground. Colours and textures tell nothing about the class (every object
and the ground draw theirs from the same distribution), only outlines do; uneven light and sensor noise come on top. A
handful of labelled scenes therefore does not show what varies and what matters, many unlabelled ones do.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from prevmatch.data.sources import Source, table

SIZE = 80
TRAIN, VAL = 512, 96
CLASSES = {
    "ground": (60, 60, 60),
    "disc": (230, 80, 70),
    "square": (70, 140, 230),
    "triangle": (90, 200, 100),
    "cross": (240, 190, 60),
    "ring": (180, 100, 210),
}


def load_shapes(train: int = TRAIN, val: int = VAL, seed: int = 0) -> Source:
    """Make `train` + `val` scenes of 80×80 pixels; the same ones for the same seed."""
    parts = []
    for name, count in (("train", train), ("val", val)):
        ids = [f"{name}_{i:04d}" for i in range(count)]
        scenes = [draw_scene(np.random.default_rng((seed, name == "val", i))) for i in range(count)]
        cells = [[{"bytes": _png(pixels), "path": None} for pixels in column] for column in zip(*scenes, strict=True)]
        parts.append(table(ids, *cells))
    return Source(train=parts[0], val=parts[1], class_names=tuple(CLASSES), palette=tuple(CLASSES.values()))


def draw_scene(rng: np.random.Generator, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene: image uint8 (size, size, 3) and mask of class ids uint8 (size, size)."""
    y, x = np.mgrid[:size, :size] / size
    image = _texture(rng, x, y)
    mask = np.zeros((size, size), dtype=np.uint8)
    for _ in range(rng.integers(3, 7)):
        label = int(rng.integers(1, len(CLASSES)))
        radius = rng.uniform(0.12, 0.24)
        center, angle = rng.uniform(0.1, 0.9, 2), rng.uniform(0, 2 * np.pi)
        u = ((x - center[0]) * np.cos(angle) + (y - center[1]) * np.sin(angle)) / radius
        v = ((y - center[1]) * np.cos(angle) - (x - center[0]) * np.sin(angle)) / radius
        inside = OUTLINES[label - 1](u, v * rng.uniform(0.8, 1.25))
        image = np.where(inside[..., None], _texture(rng, x, y), image)
        mask[inside] = label
    direction = rng.uniform(-1, 1, 2)
    light = 1 + 0.5 * (direction[0] * (x - 0.5) + direction[1] * (y - 0.5))
    image = image * light[..., None] * rng.uniform(0.7, 1.2) + rng.normal(0, 10, image.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def _texture(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Waves between two colours, with a random direction, pitch and strength: float (H, W, 3)."""
    first, second = rng.uniform(20, 235, (2, 3))
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(4, 14)
    wave = np.sin(2 * np.pi * (pitch * (x * np.cos(angle) + y * np.sin(angle)) + rng.random()))
    share = 0.5 + 0.5 * rng.uniform(0, 0.7) * wave
    return first + share[..., None] * (second - first)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    corners = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
    return np.all([u * np.cos(c) + v * np.sin(c) < 0.6 for c in corners], axis=0)


OUTLINES: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda u, v: u**2 + v**2 < 1,
    lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.85,
    _triangle,
    lambda u, v: (np.minimum(np.abs(u), np.abs(v)) < 0.33) & (np.maximum(np.abs(u), np.abs(v)) < 1.05),
    lambda u, v: np.abs(np.hypot(u, v) - 0.8) < 0.28,
)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
