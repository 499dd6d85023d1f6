"""Mixing: images of a pool pasted into each other, with everything that was said about them.

A **pool** holds a batch's own unlabelled images first, then the partners that were drawn for them, then, where they
are lent, the labelled ones. A **donor** is a row of the pool: one index says which image a box shows, and serves the
pixels, the pseudo-labels, their confidence and their padding alike. Mixing comes after labelling, so that it may
depend on what the guides say.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Labels(NamedTuple):
    """What is known of N images, pixel by pixel; (N, H, W) each."""

    ids: Tensor
    """Class ids, int64."""
    confidence: Tensor
    """Probability of that class, float32 or more precise; 1 where a mask says it."""
    valid: Tensor
    """False on padding and where a mask says nothing, bool."""

    def first(self, count: int) -> "Labels":
        """The same of the first images only."""
        return Labels(*(part[:count] for part in self))


class StrongView(NamedTuple):
    """A strong view of B images, not mixed yet."""

    pool: Tensor
    """Strong views (N, 3, H, W) of the pool's images, normalised; a row that no box shows may hold anything."""
    box: Tensor
    """Where each image shows its donor (B, H, W), bool."""
    donor: Tensor
    """Row of the pool that it shows there (B,), int64."""


Mixing = Callable[[StrongView, Sequence[Labels], Sequence[Tensor]], tuple[Tensor, list[Labels]]]
"""(a view, what each guide says of the pool, its logits (N, C, h, w) of the weak images) → images (B, 3, H, W) and
what each guide says of them."""

Box = tuple[int, int, int, int]
DrawBox = Callable[[np.random.Generator, int, int], Box | None]


def paste(box: Tensor, pool: Tensor, donor: Tensor) -> Tensor:
    """The first B rows of a pool, inside `box` (B, H, W) those that `donor` (B,) names.

    pool: images (N, C, H, W) or maps (N, H, W).
    """
    return torch.where(box.unsqueeze(1) if pool.ndim == 4 else box, pool[donor], pool[: len(box)])


def cutmix(view: StrongView, labels: Sequence[Labels], logits: Sequence[Tensor]) -> tuple[Tensor, list[Labels]]:
    """CutMix as published: the view's own boxes and donors, whatever the labels say."""
    mixed = [Labels(*(paste(view.box, part, view.donor) for part in said)) for said in labels]
    return paste(view.box, view.pool, view.donor), mixed


def cutmix_of_three(
    view: StrongView, labels: Sequence[Labels], logits: Sequence[Tensor]
) -> tuple[Tensor, list[Labels]]:
    """CPS's CutMix: three boxes, together a quarter to a half of the image, and again none where two of them overlap.

    Drawn here, with torch's generator of the device; the donors are the view's.
    """
    count, (height, width), device = len(view.box), view.pool.shape[-2:], view.pool.device
    area = 0.25 + 0.25 * torch.rand(count, 3, 1, device=device)
    tall = area ** torch.rand(count, 3, 1, device=device)
    inside = []
    for side, share in ((height, tall), (width, area / tall)):
        size = (share * side / math.sqrt(3)).round()
        start = ((side - size) * torch.rand(count, 3, 1, device=device)).round()
        place = torch.arange(side, device=device)
        inside.append((place >= start) & (place < start + size))
    boxes = inside[0][..., :, None] & inside[1][..., None, :]
    return cutmix(view._replace(box=boxes.sum(dim=1) % 2 == 1), labels, logits)


def cutmix_of_one_size(
    view: StrongView, labels: Sequence[Labels], logits: Sequence[Tensor]
) -> tuple[Tensor, list[Labels]]:
    """Dual Teacher's CutMix: boxes of one size for the batch, area share 1 − Beta(4, 4), each at a place of its own.

    Drawn here, with torch's generator of the device; the donors are the view's.
    """
    height, width = view.pool.shape[-2:]
    box = clipped_boxes(len(view.box), height, width, (4.0, 4.0), view.pool.device)
    return cutmix(view._replace(box=box), labels, logits)


def classmix(view: StrongView, labels: Sequence[Labels], logits: Sequence[Tensor]) -> tuple[Tensor, list[Labels]]:
    """ClassMix: of the classes that the first guide sees in an image a random half, rounded up, stays, and elsewhere
    it shows its donor.

    Drawn here, with torch's generator of the device.
    """
    ids = labels[0].ids[: len(view.box)].flatten(1)
    seen = torch.zeros(len(ids), logits[0].shape[1], dtype=torch.bool, device=ids.device).scatter_(1, ids, True)
    rank = torch.rand(seen.shape, device=ids.device).masked_fill(~seen, 2).argsort(dim=1).argsort(dim=1)
    stays = rank < (seen.sum(dim=1, keepdim=True) + 1) // 2
    return cutmix(view._replace(box=~stays.gather(1, ids).view_as(view.box)), labels, logits)


def adaptive_cutmix(
    view: StrongView, labels: Sequence[Labels], logits: Sequence[Tensor]
) -> tuple[Tensor, list[Labels]]:
    """AugSeg's CutMix: the less sure the first guide is of an image, the likelier a labelled one is pasted into it.

    Each image gets a box (area share 1 − Beta(4, 4)) cut from another one; into a copy of that a labelled image with
    its mask may have been pasted before (share 1 − Beta(8, 2)). The pool holds the batch's own images and the labelled
    ones. Boxes are drawn here, of one size per batch, with torch's generator of the device.
    """
    count, (height, width), device = len(view.box), view.pool.shape[-2:], view.pool.device
    other = torch.randperm(count, device=device)
    unsure = torch.rand(count, device=device) > certainty(logits[0][:count])
    given, shown = (clipped_boxes(count, height, width, shares, device) for shares in ((8.0, 2.0), (4.0, 4.0)))
    given &= unsure[:, None, None]

    def mixed(pool: Tensor) -> Tensor:
        copies = paste(given, pool, count + other)
        return paste(shown, torch.cat([pool[:count], copies]), count + other)

    return mixed(view.pool), [Labels(*map(mixed, said)) for said in labels]


def certainty(logits: Tensor) -> Tensor:
    """How sure logits (N, C, h, w) are of each image (N,): the mean of p_max (1 − entropy / log C) over pixels."""
    log_probabilities = logits.log_softmax(dim=1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1)
    return (log_probabilities.amax(dim=1).exp() * (1 - entropy / math.log(logits.shape[1]))).mean(dim=(1, 2))


def clipped_boxes(count: int, height: int, width: int, shares: tuple[float, float], device: torch.device) -> Tensor:
    """Boxes of one size, area share 1 − Beta(*shares), around centres of their own from an eighth of the side on.

    Returns (count, height, width), bool; what lies beyond the image is cut off.
    """
    a, b = torch.tensor(shares, device=device)
    # Validation would wait for the device.
    root = (1 - torch.distributions.Beta(a, b, validate_args=False).sample()).sqrt()
    inside = []
    for side in (height, width):
        half = (side * root).floor() // 2
        centre = (side // 8 + torch.rand(count, 1, device=device) * (side - side // 8)).floor()
        place = torch.arange(side, device=device)
        inside.append((place >= centre - half) & (place < centre + half))
    return inside[0][:, :, None] & inside[1][:, None, :]


def draw_box(rng: np.random.Generator, height: int, width: int) -> Box | None:
    """Draw a CutMix box (top, left, bottom, right) in pixels, or None; redrawn until it lies inside the image.

    p .5, area share U[.02, .4], aspect U[.3, 1/.3], as UniMatch has them.
    """
    if rng.random() < 0.5:
        return None
    area = rng.uniform(0.02, 0.4) * height * width
    while True:
        aspect = rng.uniform(0.3, 1 / 0.3)
        w, h = int(math.sqrt(area / aspect)), int(math.sqrt(area * aspect))
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        if left + w <= width and top + h <= height:
            return top, left, top + h, left + w


def box_map(edges: Tensor, height: int, width: int) -> Tensor:
    """Turn boxes (B, 4) as `draw_box` gives them, zeros for none, into a bool map (B, height, width), True inside."""
    top, left, bottom, right = edges.T[:, :, None, None]
    y, x = torch.arange(height, device=edges.device)[:, None], torch.arange(width, device=edges.device)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)
