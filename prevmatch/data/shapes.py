"""Shapes: procedural scenes to try the trainer on; made in seconds, always the same, nothing to download.

Objects of four classes overlap on a wavy ground. A class has its outline and its kind of texture, but colours, pitch,
direction, size, light and sensor noise vary freely, so a handful of labelled scenes does not show what matters and
what only happens to be so.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from prevmatch.data.sources import Source, table

SIZE = 80
TRAIN, VAL = 512, 64
CLASSES = {
    "ground": (60, 60, 60),
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
    image = _painted(rng, _waves(rng, x, y))
    mask = np.zeros((size, size), dtype=np.uint8)
    for _ in range(rng.integers(2, 6)):
        label = int(rng.integers(1, len(CLASSES)))
        outline, texture = OBJECTS[label - 1]
        radius, center, angle = rng.uniform(0.2, 0.34), rng.uniform(0.1, 0.9, 2), rng.uniform(0, 2 * np.pi)
        u = ((x - center[0]) * np.cos(angle) + (y - center[1]) * np.sin(angle)) / radius
        v = ((y - center[1]) * np.cos(angle) - (x - center[0]) * np.sin(angle)) / radius * rng.uniform(0.8, 1.25)
        inside = outline(u, v)
        image[inside] = _painted(rng, texture(rng, x, y)[inside])
        mask[inside] = label
    direction = rng.uniform(-1, 1, 2)
    light = rng.uniform(0.7, 1.2) * (1 + 0.6 * (direction[0] * (x - 0.5) + direction[1] * (y - 0.5)))
    image = image * light[..., None] + rng.normal(0, 8, image.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def _painted(rng: np.random.Generator, share: np.ndarray) -> np.ndarray:
    """Blend a random colour and a clearly darker or lighter one by shares (...) in [0, 1]: float (..., 3)."""
    first = rng.uniform(30, 225, 3)
    second = first + (1 if first.mean() < 128 else -1) * rng.uniform(70, 130, 3)
    return first + share[..., None] * (second - first)


def _turned(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in periods of a random pitch, direction and phase."""
    angle, pitch, phase = rng.uniform(0, np.pi), rng.uniform(6, 10), rng.random(2)
    u = pitch * (x * np.cos(angle) + y * np.sin(angle)) + phase[0]
    v = pitch * (y * np.cos(angle) - x * np.sin(angle)) + phase[1]
    return u, v


def _waves(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = _turned(rng, x, y)
    return 0.25 + 0.25 * np.sin(u / 2 + np.sin(v / 2))


def _stripes(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, _ = _turned(rng, x, y)
    return (u % 1 < 0.5).astype(float)


def _checks(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = _turned(rng, x, y)
    return ((u % 1 < 0.5) ^ (v % 1 < 0.5)).astype(float)


def _dots(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = _turned(rng, x, y)
    return (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.32).astype(float)


def _speckle(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return rng.random(x.shape)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    corners = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
    return np.all([u * np.cos(c) + v * np.sin(c) < 0.6 for c in corners], axis=0)


Texture = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]

OBJECTS: tuple[tuple[Outline, Texture], ...] = (
    (lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.85, _stripes),
    (_triangle, _checks),
    (lambda u, v: (np.minimum(np.abs(u), np.abs(v)) < 0.36) & (np.maximum(np.abs(u), np.abs(v)) < 1.05), _dots),
    (lambda u, v: np.abs(np.hypot(u, v) - 0.75) < 0.28, _speckle),
)
"""Outline and texture of each class after the ground; outlines in coordinates where the object has radius 1."""


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()
