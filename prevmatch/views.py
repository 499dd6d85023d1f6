"""Views: what the step sees of a batch, made on the device, each image with random parameters of its own.

What is drawn is UniMatch's (CVPR 2023): colour jitter p .8 (brightness, contrast, saturation ± .5, hue ± .25 of a
turn, in random order), greyscale p .2, Gaussian blur p .5 with standard deviation U[.1, 2]; and CutMix boxes
(`mixing`). Or it is AugSeg's: 1 to 3 of eleven changes. Parameters are drawn on the host from a generator per sample,
so they depend neither on the batch nor on the number of processes. Pixels are float32 RGB in [0, 255] at first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import conv2d, pad

from prevmatch.config import IGNORE_INDEX, Partner
from prevmatch.mixing import DrawBox, Labels, StrongView, box_map, draw_box

GREY_WEIGHTS = (0.299, 0.587, 0.114)
BLUR_RADIUS = 6  # pixels on each side: three times the largest standard deviation


class Views(NamedTuple):
    """One batch as the step sees it: normalised images (3, H, W) and maps (H, W), not mixed yet."""

    labelled: Tensor
    """(B, 3, H, W)"""
    mask: Tensor
    """Class ids of `labelled` (B, H, W), int64, 255 = ignored."""
    weak: Tensor
    """Weak views (B + P, 3, H, W) of the images that guides label: the batch's own B, then P partners of theirs."""
    valid: Tensor
    """False on their padding (B + P, H, W)."""
    strong: tuple[StrongView, ...] = ()
    """Strong views of the first B of them."""

    def pool(self, said: Labels) -> Labels:
        """What is known of the strong views' pool, where a guide said `said` of the weak images."""
        if not self.strong or len(self.strong[0].pool) == len(self.weak):
            return said
        known = self.mask != IGNORE_INDEX  # the labelled images are lent, with their masks
        masks = Labels(self.mask.where(known, 0), known.to(said.confidence.dtype), known)
        return Labels(*(torch.cat(parts) for parts in zip(said, masks, strict=True)))


def build_views(
    batch: dict,
    strong_views: int,
    *,
    seed: int,
    normalize: Callable[[Tensor], Tensor],
    partner: Partner = "independent",
    draw: "DrawStrong | None" = None,
    box: DrawBox | None = draw_box,
) -> Views:
    """Turn a loader's batch (uint8, on the device) into the views of a step with `strong_views` strong views.

    `draw` draws what changes an image, as in UniMatch where it is left out, and `box` where it shows another one; None
    leaves that to the mixing.
    `partner` says which image a box shows: the batch's own partners (the others, a quarter of them with two views, are
    left out), the image before it, the batch in reversed order, or the labelled image of the same sample.
    """
    labelled, mask = normalize(batch["labelled"]), batch["mask"].long()
    if not strong_views:
        return Views(labelled, mask, labelled[:0], mask[:0].bool())
    weak, valid = batch["weak"], batch["valid"]
    count, (height, width), device = len(weak), weak.shape[-2:], weak.device
    draw = draw or draw_strong
    rngs = [np.random.default_rng((seed, *key, 1)) for key in batch["keys"]]
    own, other, boxes = [], [], []
    for _ in range(strong_views):
        own.append([draw(rng) for rng in rngs])
        other.append([draw(rng) for rng in rngs])
        boxes.append([box and box(rng, height, width) for rng in rngs])
    images, donor, guests = weak, list(range(count)), []
    if partner == "independent":
        guests = [i for i in range(count) if box is None or any(drawn[i] for drawn in boxes)]
        kept = _on(device, guests)
        images = torch.cat([weak, batch["partner"][kept]])
        weak, valid = images, torch.cat([valid, batch["partner_valid"][kept]])
        donor = [count + guests.index(i) if i in guests else i for i in range(count)]
    elif partner == "labelled":
        images, guests = torch.cat([weak, batch["labelled"]]), list(range(count))
        donor = [count + i for i in range(count)]
    else:
        donor = [(i - 1) % count if partner == "batch" else count - 1 - i for i in range(count)]
    # A guest is changed only where a box shows it.
    parameters = [
        [*own[v], *(other[v][i] if boxes[v][i] else None for i in guests)] for v in range(strong_views)
    ]  # fmt: skip
    pools = strong_augment(images.repeat(strong_views, 1, 1, 1), [p for drawn in parameters for p in drawn])
    pools = rearrange(normalize(pools), "(v n) c h w -> v n c h w", v=strong_views)
    edges = _on(device, [[edge or (0, 0, 0, 0) for edge in drawn] for drawn in boxes])
    donors = _on(device, donor)
    strong = (StrongView(pools[v], box_map(edges[v], height, width), donors) for v in range(strong_views))
    return Views(labelled, mask, normalize(weak), valid, tuple(strong))


# ---------------------------------------------------------------------------------------------- what is drawn
@dataclass(frozen=True)
class Strong:
    """Parameters of one image's strong view; a None is a change that is left out."""

    jitter: tuple[tuple[str, float], ...] | None
    """(name, amount) in the order of application."""
    grey: bool
    blur: float | None
    """Standard deviation in pixels."""


def draw_strong(
    rng: np.random.Generator,
    *,
    jitters: float = 0.8,
    spread: float = 0.5,
    greys: float = 0.2,
    blurs: float = 0.5,
    sigma: tuple[float, float] = (0.1, 2.0),
) -> Strong:
    """Draw the parameters of one strong view: probabilities of the three changes, and how far they go."""
    jitter = None
    if rng.random() < jitters:
        amounts = {name: rng.uniform(1 - spread, 1 + spread) for name in ("brightness", "contrast", "saturation")}
        amounts["hue"] = rng.uniform(-0.25, 0.25)
        jitter = tuple((name, float(amounts[name])) for name in rng.permutation(list(amounts)))
    grey = bool(rng.random() < greys)
    return Strong(jitter, grey, float(rng.uniform(*sigma)) if rng.random() < blurs else None)


def draw_nothing(rng: np.random.Generator) -> Strong:
    """Leave the image as it is."""
    return Strong(None, False, None)


DrawStrong = Callable[[np.random.Generator], Strong]

INTENSITIES: dict[str, tuple[float, float]] = {
    "identity": (0, 0), "autocontrast": (0, 0), "equalize": (0, 0), "blur": (0.1, 2), "contrast": (0.05, 0.95),
    "brightness": (0.05, 0.95), "saturation": (0.05, 0.95), "sharpness": (0.05, 0.95), "posterize": (4, 8),
    "solarize": (1, 256), "hue": (-0.5, 0.5),
}  # fmt: skip
"""AugSeg's changes and the ranges of their amounts."""


def draw_intensities(rng: np.random.Generator) -> Strong:
    """Draw 1 to 3 of AugSeg's changes (CVPR 2023), with replacement, each with an amount of its own."""
    names = rng.choice(list(INTENSITIES), size=rng.integers(1, 4))
    return Strong(tuple((str(name), float(rng.uniform(*INTENSITIES[name]))) for name in names), False, None)


# ---------------------------------------------------------------------------------------------- what is done
def strong_augment(images: Tensor, parameters: Sequence[Strong | None]) -> Tensor:
    """Apply one `Strong` to each image of (B, 3, H, W), uint8 or float in [0, 255]; returns new float32 images.

    Those with None stay as they are.
    """
    images = images.float() if images.dtype == torch.uint8 else images.clone()
    drawn = [p or Strong(None, False, None) for p in parameters]
    jitters = [p.jitter or () for p in drawn]
    for position in range(max(map(len, jitters), default=0)):
        for name, change in JITTER.items():
            due = ((i, j[position]) for i, j in enumerate(jitters) if len(j) > position)
            _apply(images, {i: amount for i, (drawn_name, amount) in due if drawn_name == name}, change)
    _apply(images, {i: 1.0 for i, p in enumerate(drawn) if p.grey}, lambda x, _: _grey(x).expand_as(x))
    _apply(images, {i: p.blur for i, p in enumerate(drawn) if p.blur is not None}, gaussian_blur)
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


def stretch_contrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to the whole range (PIL's autocontrast); a channel of one value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) * (255 / (high - low).clamp(min=1e-6)), images)


def equalize_histogram(images: Tensor, _: Tensor) -> Tensor:
    """Equalise the histogram of each channel (PIL's equalize)."""
    from torchvision.transforms.v2.functional import equalize

    return equalize(images.round().to(torch.uint8)).float()


def adjust_sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by PIL's kernel (1 1 1, 1 5 1, 1 1 1) / 13, whose border pixels stay."""
    kernel = torch.ones(1, 1, 3, 3, device=images.device)
    kernel[..., 1, 1] = 5
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = conv2d(images.flatten(0, 1).unsqueeze(1), kernel / 13).view_as(smooth[..., 1:-1, 1:-1])
    return (images * factor).add_(smooth * (1 - factor)).clamp_(0, 255)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep only the upper `bits`, rounded down, of the eight."""
    step = 2 ** (8 - bits.floor())
    return (images / step).floor() * step


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at least as bright as the threshold."""
    return torch.where(images >= threshold, 255 - images, images)


JITTER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
    "autocontrast": stretch_contrast,
    "equalize": equalize_histogram,
    "blur": gaussian_blur,
    "sharpness": adjust_sharpness,
    "posterize": posterize,
    "solarize": solarize,
}
"""What changes an image by an amount (B, 1, 1, 1); names that are missing here change nothing."""
