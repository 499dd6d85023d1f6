"""Class ids for images of any size, in bounded memory: scores stay small, and are enlarged a few classes at a time."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from pathlib import Path
from stat import S_ISREG
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from prevmatch.config import PredictConfig, SegmenterConfig
from prevmatch.data.crops import fitted_size
from prevmatch.data.images import as_rgb, upright
from prevmatch.data.walking import image_files
from prevmatch.errors import DataError
from prevmatch.evaluate import sliding_window
from prevmatch.models.encoder import patch_size
from prevmatch.progress import progress

ImageLike = str | Path | Image.Image | np.ndarray
Size = tuple[int, int]

LARGEST = 2**23
"""Pixels of an image (or batch of images) that passes the network at once."""
MOST_SCORES = 2**28
"""Values of the probabilities that are averaged, where they are; 1 GB in float32."""
ENLARGED_SCORES = 2**25
"""Values of the scores that are enlarged at once."""
SMALLEST = 16
"""Images are padded to this side; some encoders cannot take less."""


class Network(Protocol):
    """What of a Segmenter predicts; Segmenter itself uses this module."""

    config: SegmenterConfig
    training: bool

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def normalize(self, images: Tensor) -> Tensor:
        """Map RGB images (B, 3, H, W) from 0 to 255 to what the network takes."""

    def __call__(self, images: Tensor, *, enlarged: bool = True) -> Tensor:
        """Map normalised images (B, 3, H, W) to logits of their size, or to smaller ones if not enlarged."""

    def train(self, mode: bool = True) -> Any:
        """Switch train mode on or off."""


@dataclass(frozen=True)
class Picture:
    """An image as the network is going to see it."""

    pixels: Tensor
    """RGB, uint8 (3, h, w)."""
    size: Size
    """Height and width of the image itself, which the result gets."""


def read_picture(image: ImageLike, config: PredictConfig, model: SegmenterConfig) -> Picture:
    """Read an image upright as RGB and bring it to the size that the settings, or else the model, ask for.

    An image is a path, a PIL image, or an array uint8 (H, W, 3) or (H, W). Raises DataError for anything else and for
    what cannot be read.
    """
    rgb = read_rgb(image, model.image_bits)
    size = (rgb.height, rgb.width)
    long_side = model.image_size if config.size is None else max(config.size, *size)
    if long_side is not None and long_side != max(size):
        rgb = rgb.resize(fitted_size(rgb.size, long_side), Image.Resampling.BILINEAR)
    return Picture(torch.from_numpy(np.array(rgb)).permute(2, 0, 1), size)


def predict(
    model: Network,
    images: ImageLike | Sequence[ImageLike],
    config: PredictConfig = PredictConfig(),  # noqa: B008 (frozen)
    *,
    probabilities: bool = False,
) -> np.ndarray | list[np.ndarray]:
    """Segment one image, or each of a list or folder; see `Segmenter.predict`."""
    if isinstance(images, str | Path) and Path(images).is_dir():
        images = list(image_files(Path(images)))
    one = isinstance(images, ImageLike)
    many: Sequence[ImageLike] = [images] if isinstance(images, ImageLike) else images
    pictures = (read_picture(image, config, model.config) for image in many)
    results = dict(segment(model, pictures, config, probabilities=probabilities))
    return results[0] if one else [results[i] for i in range(len(many))]


def segment(
    model: Network, pictures: Iterable[Picture], config: PredictConfig, *, probabilities: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of each picture and its class ids uint8 (H, W), or probabilities float32 (C, H, W).

    Pictures of equal size are segmented together, so results come in another order. Only a few pictures are held.
    """
    with _in_eval_mode(model), torch.no_grad():
        waiting: dict[tuple[Size, Size], list[tuple[int, Picture]]] = {}
        for number, picture in enumerate(pictures):
            height, width = picture.pixels.shape[-2:]
            kind = ((height, width), picture.size)
            waiting.setdefault(kind, []).append((number, picture))
            if len(waiting[kind]) >= min(config.batch_size, _limit(model, config, probabilities) // (height * width)):
                yield from _segment_batch(model, waiting.pop(kind), config, probabilities)
            elif sum(map(len, waiting.values())) >= 2 * config.batch_size:
                fullest = max(waiting, key=lambda kind: len(waiting[kind]))
                yield from _segment_batch(model, waiting.pop(fullest), config, probabilities)
        for batch in waiting.values():
            yield from _segment_batch(model, batch, config, probabilities)


def segments(ids: np.ndarray, names: dict[int, str]) -> list[dict]:
    """The classes in a map of ids as transformers' image-segmentation pipeline gives them.

    Each is {"score": None, "label": name, "mask": PIL image of mode L, 255 where the class is}.
    """
    found = np.unique(ids)
    masks = (Image.fromarray(np.where(ids == label, 255, 0).astype(np.uint8)) for label in found)
    return [{"score": None, "label": names[int(label)], "mask": m} for label, m in zip(found, masks, strict=True)]


@contextmanager
def _in_eval_mode(model: Network) -> Iterator[None]:
    training = model.training
    try:
        model.train(False)
        yield
    finally:
        model.train(training)


def _window(model: Network, config: PredictConfig) -> int:
    return (model.config.eval_window or 0) if config.window is None else config.window


def _averages(model: Network, config: PredictConfig) -> bool:
    return bool(config.flip or config.scales != (1.0,) or _window(model, config))


def _limit(model: Network, config: PredictConfig, probabilities: bool) -> int:
    """How many pixels are segmented at once."""
    scores = MOST_SCORES // model.config.num_classes if _averages(model, config) or probabilities else LARGEST
    return int(min(LARGEST, scores) / max(1, *config.scales) ** 2)


def _segment_batch(
    model: Network, batch: list[tuple[int, Picture]], config: PredictConfig, probabilities: bool
) -> Iterator[tuple[int, np.ndarray]]:
    size = batch[0][1].size
    pixels = torch.stack([picture.pixels for _, picture in batch]).to(model.device)
    shape = (pixels.shape[-2], pixels.shape[-1])
    limit = _limit(model, config, probabilities)
    if shape[0] * shape[1] <= limit or config.window == 0:
        found = _answer(model, pixels, size, config, probabilities).cpu()
    else:
        found = torch.empty(
            (1, model.config.num_classes, *shape) if probabilities else (1, *shape),
            dtype=torch.float32 if probabilities else torch.uint8,
        )
        tiles = list(_tiles(shape, limit))
        what = f"{size[1]}×{size[0]} pixels"
        for outer, inner, place in progress(tiles, total=len(tiles), desc=what, unit="tile", leave=False):
            tile = pixels[(..., *outer)]
            part = _answer(model, tile, (tile.shape[-2], tile.shape[-1]), config, probabilities)
            found[(..., *place)] = part[(..., *inner)].cpu()
        if shape != size:
            found = _resized(found, size)
    yield from zip((number for number, _ in batch), found.numpy(), strict=True)


def _answer(model: Network, pixels: Tensor, size: Size, config: PredictConfig, probabilities: bool) -> Tensor:
    """Ids uint8 (B, H, W), or probabilities float32 (B, C, H, W), at `size` for pixels (B, 3, h, w)."""
    images = model.normalize(pixels)
    shape = (images.shape[-2], images.shape[-1])
    enlargements = [] if shape == size else [(size, False)]
    averages = _averages(model, config)
    if averages:
        scores = _averaged(model, images, config)
    elif min(shape) < SMALLEST:
        scores = _padded(model, images)
    else:
        # As the network itself enlarges them, but never all classes at once.
        scores, enlargements = model(images, enlarged=False), [(shape, True), *enlargements]
    if not probabilities:
        return _best_class(scores, enlargements, size)
    scores = _enlarged(scores, enlargements)
    return scores if averages else scores.softmax(dim=1)


def _averaged(model: Network, images: Tensor, config: PredictConfig) -> Tensor:
    """Mean of the probabilities, float32 (B, C, H, W), over windows, scales and mirror images."""
    size = (images.shape[-2], images.shape[-1])
    inside = patch_size(model.config.encoder) > 1
    window, total = _window(model, config), torch.zeros((), device=images.device)
    for scale in config.scales:
        scaled = images
        if scale != 1:
            height, width = (max(1, round(side * scale)) for side in size)
            scaled = interpolate(images.float(), (height, width), mode="bilinear", antialias=True).to(images.dtype)
        for mirrored in (False, True)[: 1 + config.flip]:
            seen = scaled.flip(-1) if mirrored else scaled
            if window:
                found = sliding_window(lambda part: _padded(model, part), seen, window, inside=inside)
                found = found / found.sum(dim=1, keepdim=True)
            else:
                found = _padded(model, seen).softmax(dim=1)
            found = found.flip(-1) if mirrored else found
            total = total + (found if scale == 1 else interpolate(found, size, mode="bilinear"))
    return total / (len(config.scales) * (1 + config.flip))


def _padded(model: Network, images: Tensor) -> Tensor:
    """Logits in float32, also of images that are smaller than the encoder can take."""
    height, width = images.shape[-2:]
    padding = (0, max(0, SMALLEST - width), 0, max(0, SMALLEST - height))
    return model(pad(images, padding, mode="replicate") if any(padding) else images)[..., :height, :width].float()


def _enlarged(scores: Tensor, enlargements: Sequence[tuple[Size, bool]]) -> Tensor:
    for size, align_corners in enlargements:
        scores = interpolate(scores.float(), size, mode="bilinear", align_corners=align_corners)
    return scores.float()


def _best_class(scores: Tensor, enlargements: Sequence[tuple[Size, bool]], size: Size) -> Tensor:
    """Ids uint8 (B, *size) of the largest scores (B, C, h, w) after the enlargements."""
    # Two enlargements pass an intermediate size, which may be the larger one.
    largest = max(height * width for height, width in (size, *(step[0] for step in enlargements)))
    group = max(1, ENLARGED_SCORES // (len(scores) * largest))
    best, ids = None, torch.empty(0)
    for start in range(0, scores.shape[1], group):
        values, labels = _enlarged(scores[:, start : start + group], enlargements).max(dim=1)
        labels = (labels + start).to(torch.uint8)
        ids = labels if best is None else torch.where(values > best, labels, ids)
        best = values if best is None else torch.maximum(values, best)
    return ids


def _resized(found: Tensor, size: Size) -> Tensor:
    if found.dtype == torch.uint8:
        return interpolate(found[None], size, mode="nearest-exact")[0]
    return interpolate(found, size, mode="bilinear")


def _tiles(shape: Size, limit: int) -> Iterator[tuple[tuple[slice, slice], ...]]:
    """Overlapping tiles of at most `limit` pixels: where one is cut out, which part of it counts, and where that goes.

    An eighth of a tile's side is context that does not count, except at the image's border.
    """
    side = isqrt(limit)
    margin = side // 8
    lines = []
    for length in shape:
        count = -(-length // max(1, side - 2 * margin))
        ends = [length * i // count for i in range(count + 1)]
        line = []
        for start, stop in pairwise(ends):
            first = max(0, start - margin)
            line.append(
                (slice(first, min(length, stop + margin)), slice(start - first, stop - first), slice(start, stop))
            )
        lines.append(line)
    for down in lines[0]:
        for across in lines[1]:
            yield tuple(zip(down, across, strict=True))


def read_rgb(image: ImageLike, bits: int | None = None) -> Image.Image:
    """An image upright as RGB, with `bits` as in `as_rgb`; see `read_picture`."""
    name = str(image)
    if isinstance(image, np.ndarray):
        name = f"an array of {image.dtype} {image.shape}"
        if image.dtype != np.uint8 or image.size == 0 or image.shape[2:] not in ((), (3,)) or image.ndim < 2:
            raise DataError(f"{name} is no image; give uint8 of shape (H, W, 3), RGB, or (H, W), grey")
    elif isinstance(image, str) and image.startswith(("http://", "https://")):
        raise DataError(f"{image} is an address; download the image and give its path")
    elif not isinstance(image, Image.Image | str | Path):
        raise DataError(f"a {type(image).__name__} is no image; give a path, a PIL image or an array uint8 (H, W, 3)")
    try:
        if isinstance(image, Image.Image):
            return as_rgb(upright(image), bits)
        if isinstance(image, np.ndarray):
            return as_rgb(Image.fromarray(image))
        if not S_ISREG(os.stat(image).st_mode):
            raise DataError(f"{name} is no file but a folder, a pipe or a device; give image files")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(image) as opened:
                return as_rgb(upright(opened), bits)  # decodes the file, so that a torn one is noticed here
    except FileNotFoundError:
        raise DataError(f"{name} does not exist") from None
    except Image.DecompressionBombError:
        raise DataError(
            f"{name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels and is taken for a decompression bomb; "
            "if it is yours, cut it into parts"
        ) from None
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name} cannot be read as an image ({type(error).__name__}); check the file") from None
