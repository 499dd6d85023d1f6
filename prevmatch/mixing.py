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


Mixing = Callable[[StrongView, Sequence[Labels]], tuple[Tensor, list[Labels]]]
"""(a view, what each guide says of the pool) → images (B, 3, H, W) and what each guide says of them."""


def paste(box: Tensor, pool: Tensor, donor: Tensor) -> Tensor:
    """The first B rows of a pool, inside `box` (B, H, W) those that `donor` (B,) names.

    pool: images (N, C, H, W) or maps (N, H, W).
    """
    return torch.where(box.unsqueeze(1) if pool.ndim == 4 else box, pool[donor], pool[: len(box)])


def cutmix(view: StrongView, labels: Sequence[Labels]) -> tuple[Tensor, list[Labels]]:
    """CutMix as published: the view's own boxes and donors, whatever the labels say."""
    mixed = [Labels(*(paste(view.box, part, view.donor) for part in said)) for said in labels]
    return paste(view.box, view.pool, view.donor), mixed


def draw_box(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int] | None:
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
