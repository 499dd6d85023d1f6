"""Evaluation of any network by the published protocols: whole image or sliding window, on any number of processes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from prevmatch.metrics import confusion_matrix

Network = Callable[[Tensor], Tensor]


@torch.no_grad()
def sliding_window(network: Network, image: Tensor, window: int) -> Tensor:
    """Sum the class probabilities of overlapping windows over images (B, 3, H, W); returns (B, C, H, W).

    Windows start at every multiple of ⌊2/3 · window⌋ below the image's side and shrink at the right and lower border
    (method.md, section 2: Cityscapes).
    """
    height, width = image.shape[-2:]
    stride = max(1, window * 2 // 3)
    scores: Tensor | None = None
    for top in range(0, height, stride):
        for left in range(0, width, stride):
            part = (..., slice(top, min(top + window, height)), slice(left, min(left + window, width)))
            probabilities = network(image[part]).softmax(dim=1)
            if scores is None:
                scores = probabilities.new_zeros(*probabilities.shape[:2], height, width)
            scores[part] += probabilities
    assert scores is not None
    return scores


def class_scores(network: Network, image: Tensor, window: int | None) -> Tensor:
    """Scores (1, C, H, W) whose largest names the class of each pixel of a normalised image (1, 3, H, W).

    They are logits of the whole image, or sums of probabilities over sliding windows.
    """
    with torch.no_grad():
        return network(image) if window is None else sliding_window(network, image, window)


def evaluate(
    network: Network,
    samples: Iterable[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    normalize: Callable[[Tensor], Tensor],
    window: int | None,
    device: torch.device,
    keep: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Confusion matrix, int64 (C, C) on the device, over samples of image (3, H, W) uint8 and mask (H, W) uint8.

    Every process passes its own share of the images; the sum of their matrices is exact for any number of processes.
    `keep` is called with the class ids, int64 (H, W), of each sample in turn.
    """
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    for image, mask in samples:
        scores = class_scores(network, normalize(image.to(device, non_blocking=True)[None]), window)
        ids = scores.argmax(dim=1)[0]
        confusion += confusion_matrix(ids, mask.to(device, non_blocking=True), num_classes)
        if keep is not None:
            keep(ids)
    return confusion
