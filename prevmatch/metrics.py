"""Intersection over union from a confusion matrix that stays on the device."""

import torch
from torch import Tensor


def confusion_matrix(pred: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Count pixels: row = true class, column = predicted class; int64 (num_classes, num_classes).

    pred and target are integer maps of one shape. Pixels whose target is ignore_index do not count.
    """
    pair = target.long() * num_classes + pred.long()
    # Ignored pixels go to a bin of their own: a boolean index would need the host to wait for its size.
    pair = pair.where(target != ignore_index, num_classes**2)
    return torch.bincount(pair.flatten(), minlength=num_classes**2 + 1)[:-1].view(num_classes, num_classes)


def iou(confusion: Tensor, absent: float = 0.0) -> Tensor:
    """Per-class intersection over union in %, float64 (num_classes,); `absent` for a class that never occurs.

    The mean over all classes, the absent ones counted as 0, is the mIoU of the published tables.
    """
    confusion = confusion.double()
    intersection = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    return (100 * intersection / union.clamp(min=1)).where(confusion.sum(1) > 0, absent)
