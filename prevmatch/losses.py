"""The losses of the labelled images (cross-entropy, OHEM) and of the unlabelled ones (confidence weighting)."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as pixel_cross_entropy

from prevmatch.config import IGNORE_INDEX, Weighting


def cross_entropy(
    logits: Tensor, target: Tensor, *, class_weight: Tensor | None = None, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored, each times its class's weight; 0 where every pixel is.

    logits (B, C, H, W) float, target (B, H, W) int64, class_weight (C,). The sum is divided by the number of pixels,
    not by that of their weights, so that a batch of rare classes counts more than one without.
    """
    loss = pixel_cross_entropy(logits, target, class_weight, ignore_index=ignore_index, reduction="sum")
    return loss / (target != ignore_index).sum().clamp(min=1)


def inverse_log_weights(pixels: Tensor) -> Tensor:
    """Weights float32 (C,) of classes with so many pixels (C,), larger for rarer ones: 1 / ln(1.1 + share).

    As in ENet (1606.02147, section 5.2), but with a mean of 1 over all pixels, and milder: a class of hardly any
    pixels weighs 8 times one of all pixels, where ENet's 1.02 gives 36. IoU is best where a pixel belongs to a rare
    class from a probability of J / (1 + J) on, J being its IoU, which a weight of 1 / J brings about.
    """
    shares = pixels.double() / pixels.sum().clamp(min=1)
    weights = 1 / (1.1 + shares).log()
    average = (weights * shares).sum() if pixels.any() else weights.mean()
    return (weights / average).float()


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    threshold: float = 0.7,
    min_kept: int = 200_000,
    class_weight: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Cross-entropy over hard pixels only (online hard example mining), as the published Cityscapes runs used it.

    Kept are the pixels whose true class is no more probable than max(threshold, the min_kept-th smallest such
    probability over all pixels, an ignored one counting as 1). min_kept = 0, or more than the valid pixels, keeps all.
    logits (B, C, H, W) float, target (B, H, W) int64, class_weight (C,). No host-device synchronisation.
    """
    valid = target != ignore_index
    target = target.where(valid, 0)
    if class_weight is None:
        class_weight = torch.ones(logits.shape[1], device=logits.device)
    weight = class_weight[target] * valid
    if min_kept > 0:
        with torch.no_grad():
            probability = logits.softmax(dim=1).gather(1, target.unsqueeze(1)).squeeze(1).where(valid, 1.0)
            kth = probability.flatten().kthvalue(min(min_kept, target.numel())).values
            keep = (probability <= kth.clamp(min=threshold)) | (valid.sum() < min_kept)
        weight = weight * keep
    loss = pixel_cross_entropy(logits, target, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=torch.finfo(loss.dtype).tiny)


def confidence_weighted(
    loss: Tensor, confidence: Tensor, valid: Tensor, *, threshold: float, mode: Weighting = "pixelwise"
) -> Tensor:
    """`weighted` with one threshold: what is accepted is what has a confidence of at least `threshold`."""
    return weighted(loss, confidence, valid, confidence >= threshold, mode=mode)


def weighted(
    loss: Tensor, confidence: Tensor, valid: Tensor, accepted: Tensor, *, mode: Weighting = "pixelwise"
) -> Tensor:
    """Reduce a per-pixel loss on pseudo-labels to a scalar, weighing it by the guide's confidence.

    loss, confidence (B, H, W) float; valid (B, H, W) bool, False on padding; accepted (B, H, W) bool, where the
    guide's word counts. The sum is always divided by the number of valid pixels, not of accepted ones.

    * pixelwise: valid pixels that are accepted count.
    * pixelratio: every pixel counts times the accepted share of its image's valid pixels.
    * pixelavg: the whole batch's loss times the sum over images of their mean confidence. That is batch-size times
      larger than a mean, and padding counts; the published Cityscapes runs were trained so (by the paper's code, not
      its text).
    """
    pixels = valid.sum().clamp(min=1)
    if mode == "pixelwise":
        return (loss * (accepted & valid)).sum() / pixels
    per_image = valid.sum(dim=(1, 2)).clamp(min=1)
    if mode == "pixelratio":
        share = (accepted & valid).sum(dim=(1, 2)) / per_image
        return (loss * share[:, None, None]).sum() / pixels
    if mode == "pixelavg":
        average = (confidence * valid).sum(dim=(1, 2)) / per_image
        return loss.sum() * average.sum() / pixels
    raise ValueError(f"mode is {mode!r} but must be pixelwise, pixelratio or pixelavg")
