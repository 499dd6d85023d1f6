"""Strong views, made on the device for a whole batch, each image with random parameters of its own.

What is drawn is UniMatch's (CVPR 2023): colour jitter p .8 (brightness, contrast, saturation ± .5, hue ± .25 of a
turn, in random order), greyscale p .2, Gaussian blur p .5 with standard deviation U[.1, 2], and a CutMix box p .5
with an area share U[.02, .4] and an aspect U[.3, 1/.3]. Parameters are drawn on the host from a generator per sample,
so they depend neither on the batch nor on the number of processes. Pixels are float32 RGB in [0, 255] at first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

GREY_WEIGHTS = (0.299, 0.587, 0.114)
BLUR_RADIUS = 6  # pixels on each side: three times the largest standard deviation


class Views(NamedTuple):
    """One batch as the step sees it: normalised images (B, 3, H, W), maps (B, H, W)."""

    labelled: Tensor
    mask: Tensor
    """Class ids of `labelled`, int64, 255 = ignored."""
    weak: Tensor
    valid: Tensor
    """False on the padding of `weak`."""
    strong: tuple[Tensor, ...]
    """Strong views of `weak`; inside `boxes` they show the partner's strong view."""
    boxes: tuple[Tensor, ...]
    """Where each strong view shows the partner, bool."""
    partner: Tensor | None = None
    """Weak views (P, 3, H, W) of the partners that a box shows; None: an image's partner is the one before it."""
    partner_valid: Tensor | None = None
    """False on their padding (P, H, W)."""
    partner_rows: Tensor | None = None
    """Which images of the batch they belong to (P,), int64; None: one to each."""


def build_views(batch: dict, strong_views: int, *, seed: int, normalize: Callable[[Tensor], Tensor]) -> Views:
    """Turn a loader's batch (uint8, on the device) into the views of a step with `strong_views` strong views.

    Partners that no box shows, a quarter of them with two views, are left out. A batch without partners is its own,
    rolled by one image, strong views included (as in UniMatch V2).
    """
    labelled, mask = normalize(batch["labelled"]), batch["mask"].long()
    if not strong_views:
        none = labelled[:0]
        return Views(labelled, mask, none, none.bool(), (), ())
    weak, partner = batch["weak"], batch.get("partner")
    count, (height, width), device = len(weak), weak.shape[-2:], weak.device
    rngs = [np.random.default_rng((seed, *key, 1)) for key in batch["keys"]]
    own, other, drawn = [], [], []
    for _ in range(strong_views):
        own += [draw_strong(rng) for rng in rngs]
        other += [draw_strong(rng) for rng in rngs]
        drawn += [draw_box(rng, height, width) for rng in rngs]
    boxes = box_map(drawn, height, width, device)
    if partner is None:
        strong = strong_augment(torch.cat([weak] * strong_views), own)
        rolled = strong.view(strong_views, *weak.shape).roll(1, dims=1).view_as(strong)
        strong, extra = paste(boxes, rolled, strong), {}
    else:
        shown = [i for i, box in enumerate(drawn) if box is not None]  # rows of all views' images together
        rows = sorted({i % count for i in shown}) or [0]  # not empty: some networks cannot answer no image at all
        places, owners, kept = (_on(device, index) for index in (shown, [i % count for i in shown], rows))
        images = torch.cat([weak] * strong_views + [partner[owners]])
        strong, pasted = strong_augment(images, own + [other[i] for i in shown]).split([len(own), len(shown)])
        strong[places] = paste(boxes[places], pasted, strong[places])
        extra = {
            "partner": normalize(partner[kept]),
            "partner_valid": batch["partner_valid"][kept],
            "partner_rows": kept,
        }
    views = normalize(strong).tensor_split(strong_views)
    return Views(labelled, mask, normalize(weak), batch["valid"], views, boxes.tensor_split(strong_views), **extra)


# ---------------------------------------------------------------------------------------------- what is drawn
@dataclass(frozen=True)
class Strong:
    """Parameters of one image's strong view; a None is a change that is left out."""

    jitter: tuple[tuple[str, float], ...] | None
    """(name, amount) in the order of application."""
    grey: bool
    blur: float | None
    """Standard deviation in pixels."""


def draw_strong(rng: np.random.Generator) -> Strong:
    """Draw the parameters of one strong view."""
    jitter = None
    if rng.random() < 0.8:
        amounts = {name: rng.uniform(0.5, 1.5) for name in ("brightness", "contrast", "saturation")}
        amounts["hue"] = rng.uniform(-0.25, 0.25)
        jitter = tuple((name, float(amounts[name])) for name in rng.permutation(list(amounts)))
    grey = bool(rng.random() < 0.2)
    return Strong(jitter, grey, float(rng.uniform(0.1, 2.0)) if rng.random() < 0.5 else None)


def draw_box(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Draw a CutMix box (top, left, bottom, right) in pixels, or None; redrawn until it lies inside the image."""
    if rng.random() < 0.5:
        return None
    area = rng.uniform(0.02, 0.4) * height * width
    while True:
        aspect = rng.uniform(0.3, 1 / 0.3)
        w, h = int(math.sqrt(area / aspect)), int(math.sqrt(area * aspect))
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        if left + w <= width and top + h <= height:
            return top, left, top + h, left + w


def box_map(
    boxes: Sequence[tuple[int, int, int, int] | None], height: int, width: int, device: torch.device
) -> Tensor:
    """Turn boxes into a bool map (B, height, width), True inside."""
    edges = _on(device, [box or (0, 0, 0, 0) for box in boxes])
    top, left, bottom, right = edges.T[:, :, None, None]
    y, x = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


# ---------------------------------------------------------------------------------------------- what is done
def paste(box: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """CutMix: `inside` where box (B, H, W) is True, `outside` elsewhere; for images (B, C, H, W) or maps (B, H, W)."""
    return torch.where(box.unsqueeze(1) if inside.ndim == 4 else box, inside, outside)


def strong_augment(images: Tensor, parameters: Sequence[Strong]) -> Tensor:
    """Apply one `Strong` to each image of (B, 3, H, W), uint8 or float in [0, 255]; returns new float32 images."""
    images = images.float() if images.dtype == torch.uint8 else images.clone()
    for position in range(4):
        for name, change in JITTER.items():
            chosen = {
                i: p.jitter[position][1]
                for i, p in enumerate(parameters)
                if p.jitter and p.jitter[position][0] == name
            }
            _apply(images, chosen, change)
    _apply(images, {i: 1.0 for i, p in enumerate(parameters) if p.grey}, lambda x, _: _grey(x).expand_as(x))
    _apply(images, {i: p.blur for i, p in enumerate(parameters) if p.blur is not None}, gaussian_blur)
    return images


def _apply(images: Tensor, chosen: dict[int, float], change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Change the images at the chosen indices in place, each by its own amount."""
    if chosen:
        index, amount = _on(images.device, list(chosen)), _on(images.device, list(chosen.values()))
        images[index] = change(images[index], amount[:, None, None, None])


def _on(device: torch.device, values: list) -> Tensor:
    """Numbers drawn on the host as a tensor on the device, without a wait."""
    tensor = torch.tensor(values, dtype=None if values else torch.int64)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def _grey(images: Tensor) -> Tensor:
    """Luminance (B, 1, H, W) by ITU-R 601, as PIL's mode L."""
    red, green, blue = images.unbind(1)
    return (GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue).unsqueeze(1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale towards black (factor 0) or beyond; factor (B, 1, 1, 1)."""
    return (images * factor).clamp_(0, 255)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean luminance of the image."""
    mean = _grey(images.mean(dim=(2, 3), keepdim=True))  # of the luminance, which is linear
    return (images * factor).add_(mean * (1 - factor)).clamp_(0, 255)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the greyscale image."""
    return (images * factor).add_(_grey(images) * (1 - factor)).clamp_(0, 255)


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of the HSV colour circle by a fraction of a full turn."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    scale = 1 / chroma.clamp(min=1e-6)
    hue = torch.where(
        value == red,
        (green - blue) * scale,
        torch.where(value == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    )
    hue = hue + 6 * turn.squeeze(1)
    # HSV → RGB in closed form: channel = value − chroma · clamp(min(k, 4 − k), 0, 1), k = (n + hue) mod 6. The modulo
    # by floor, and the channels one by one, take half the time of `%` on a stack of three (CPU).
    result = torch.empty_like(images)
    for channel, n in enumerate((5, 3, 1)):
        k = hue + n
        k -= 6 * torch.floor(k / 6)
        torch.sub(value, torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma), out=result[:, channel])
    return result


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image (B, C, H, W) by its own standard deviation sigma (B, 1, 1, 1) in pixels; edges are repeated."""
    batch, channels = images.shape[:2]
    taps = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    kernel = torch.exp(-0.5 * (taps / sigma.view(-1, 1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None, None]
    flat = pad(images.flatten(0, 1).unsqueeze(0), [BLUR_RADIUS] * 4, mode="replicate")
    flat = conv2d(flat, kernel, groups=batch * channels)
    return conv2d(flat, kernel.transpose(2, 3), groups=batch * channels).view_as(images)


JITTER = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}
