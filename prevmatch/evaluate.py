"""Evaluation of any network by the published protocols: whole image or sliding window, on any number of processes."""

from collections.abc import Callable, Iterable
from itertools import product, takewhile

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from prevmatch.metrics import confusion_matrix, iou
from prevmatch.progress import progress

Network = Callable[[Tensor], Tensor]

WINDOWS = 4
"""Windows that a GPU answers together; a CPU answers one at a time, which takes less memory."""


@torch.no_grad()
def sliding_window(
    network: Network, image: Tensor, window: int, *, batch_size: int = 1, inside: bool = False
) -> Tensor:
    """Sum the class probabilities of overlapping windows over images (B, 3, H, W); returns (B, C, H, W).

    Windows start at every multiple of ⌊2/3 · window⌋ below the image's side and shrink at the right and lower border
    (the published protocol of Cityscapes); `inside` moves the last ones back instead, so that all are whole (UniMatch
    V2's, for a plain ViT). `batch_size` windows of one shape are answered together.
    """
    count, _, height, width = image.shape
    starts = product(*(_starts(side, window, inside=inside) for side in (height, width)))
    places = [(slice(t, min(t + window, height)), slice(x, min(x + window, width))) for t, x in starts]
    alike: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
    for rows, columns in places:
        alike.setdefault((rows.stop - rows.start, columns.stop - columns.start), []).append((rows, columns))
    scores: Tensor | None = None
    for group in alike.values():
        for first in range(0, len(group), batch_size):
            some = group[first : first + batch_size]
            probabilities = network(torch.cat([image[..., rows, columns] for rows, columns in some])).softmax(dim=1)
            if scores is None:
                scores = probabilities.new_zeros(count, probabilities.shape[1], height, width)
            for (rows, columns), part in zip(some, probabilities.split(count), strict=True):
                scores[..., rows, columns] += part
    assert scores is not None
    return scores


def _starts(side: int, window: int, *, inside: bool) -> Iterable[int]:
    stride = max(1, window * 2 // 3)
    return (*range(0, side - window, stride), max(0, side - window)) if inside else range(0, side, stride)


def class_scores(network: Network, image: Tensor, window: int | None, *, inside: bool = False) -> Tensor:
    """Scores (1, C, H, W) whose largest names the class of each pixel of a normalised image (1, 3, H, W).

    They are logits of the whole image, or sums of probabilities over sliding windows, all of them whole if `inside`.
    """
    with torch.no_grad():
        if window is None:
            return network(image)
        return sliding_window(network, image, window, batch_size=WINDOWS if image.is_cuda else 1, inside=inside)


def evaluate(
    network: Network,
    samples: Iterable[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    normalize: Callable[[Tensor], Tensor],
    window: int | None,
    inside: bool = False,
    device: torch.device,
    keep: Callable[[Tensor], None] | None = None,
    each: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Confusion matrix, int64 (C, C) on the device, over samples of image (3, H, W) uint8 and mask (H, W) uint8.

    Every process passes its own share of the images; the sum of their matrices is exact for any number of processes.
    `keep` is called with the class ids, int64 (H, W), of each sample in turn, `each` with its own matrix.
    """
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    for image, mask in samples:
        scores = class_scores(network, normalize(image.to(device, non_blocking=True)[None]), window, inside=inside)
        ids = scores.argmax(dim=1)[0]
        own = confusion_matrix(ids, mask.to(device, non_blocking=True), num_classes)
        confusion += own
        if each is not None:
            each(own)
        if keep is not None:
            keep(ids)
    return confusion


def class_iou(
    network: Network,
    loader: DataLoader,
    *,
    num_classes: int,
    normalize: Callable[[Tensor], Tensor],
    window: int | None,
    inside: bool = False,
    device: torch.device,
    reduce: Callable[[Tensor], Tensor],
    absent: float = 0.0,
    show: bool = True,
    go_on: Callable[[object], bool] = lambda sample: True,
    keep: Callable[[Tensor], None] | None = None,
    each: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """IoU in % of each class, float64 (C) on the CPU, over the images of all processes, with a progress bar if `show`;
    `absent` for a class that never occurs.

    `loader` has this process's share of the images and `reduce` adds up what the processes hold; the rest is as in
    `evaluate`. The result means nothing where `go_on`, which is asked for each sample, ended it early.
    """
    bar = progress(
        takewhile(go_on, loader), desc="evaluate", total=len(loader), unit="image", disable=not show,
        leave=None,  # None: it stays, but not below the bar of a training run
    )  # fmt: skip
    confusion = evaluate(
        network, bar, num_classes=num_classes, normalize=normalize, window=window, inside=inside, device=device,
        keep=keep, each=each,
    )  # fmt: skip
    return iou(reduce(confusion).cpu(), absent)
