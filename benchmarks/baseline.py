"""The published pipeline, written down plainly from its description: what the benchmarks compare with.

Each worker makes both strong views of an image with PIL, for two unlabelled streams of which one serves only as the
CutMix partner; every previous model is a whole network on the device; each loss is read back at once for the log;
networks are in PyTorch's default memory format. Mathematics and random distributions are those of `prevmatch`.
"""

import io
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout2d
from torch.utils.data import Dataset
from torchvision.transforms import ColorJitter
from torchvision.transforms.functional import normalize, to_tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IGNORE = 255


def plain_crop(image: Image.Image, mask: Image.Image, size: int) -> tuple[Image.Image, Image.Image]:
    """Scale the whole image by .5 to 2, pad it, cut a square out, mirror it with probability 1/2."""
    long = random.randint(int(max(image.size) * 0.5), int(max(image.size) * 2.0))
    scale = long / max(image.size)
    width, height = (int(side * scale + 0.5) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    mask = mask.resize((width, height), Image.Resampling.NEAREST)
    right, below = max(size - width, 0), max(size - height, 0)
    image = ImageOps.expand(image, (0, 0, right, below), fill=0)
    mask = ImageOps.expand(mask, (0, 0, right, below), fill=IGNORE)
    left, top = random.randint(0, image.width - size), random.randint(0, image.height - size)
    box = (left, top, left + size, top + size)
    image, mask = image.crop(box), mask.crop(box)
    return (ImageOps.mirror(image), ImageOps.mirror(mask)) if random.random() < 0.5 else (image, mask)


def plain_strong(image: Image.Image) -> Image.Image:
    """Colour jitter, greyscale and blur of one image."""
    if random.random() < 0.8:
        image = ColorJitter(0.5, 0.5, 0.5, 0.25)(image)
    if random.random() < 0.2:
        image = image.convert("L").convert("RGB")
    if random.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
    return image


def plain_box(size: int) -> Tensor:
    """A CutMix box as a map (size, size) of 0 and 1."""
    box = torch.zeros(size, size)
    if random.random() > 0.5:
        return box
    area = np.random.uniform(0.02, 0.4) * size * size
    while True:
        ratio = np.random.uniform(0.3, 1 / 0.3)
        width, height = int(np.sqrt(area / ratio)), int(np.sqrt(area * ratio))
        left, top = np.random.randint(0, size), np.random.randint(0, size)
        if left + width <= size and top + height <= size:
            box[top : top + height, left : left + width] = 1
            return box


def plain_tensor(image: Image.Image) -> Tensor:
    """Normalised float32 (3, H, W)."""
    return normalize(to_tensor(image), MEAN, STD)


class PlainUnlabelled(Dataset):
    """One unlabelled stream over encoded images: weak view, two strong views, valid map, two boxes."""

    def __init__(self, files: Sequence[bytes], size: int):
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = Image.open(io.BytesIO(self.files[index])).convert("RGB")
        weak, padding = plain_crop(image, Image.new("L", image.size, 0), self.size)
        strong = [plain_strong(deepcopy(weak)) for _ in range(2)]
        boxes = [plain_box(self.size) for _ in range(2)]
        return {
            "weak": plain_tensor(weak), "strong1": plain_tensor(strong[0]), "strong2": plain_tensor(strong[1]),
            "ignore": torch.from_numpy(np.array(padding)).long(), "box1": boxes[0], "box2": boxes[1],
        }  # fmt: skip


class PlainLabelled(Dataset):
    """The labelled stream over pairs of encoded image and mask: weak view and class ids."""

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]], size: int):
        self.pairs, self.size = pairs, size

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, mask = (
            Image.open(io.BytesIO(file)).convert(m) for file, m in zip(self.pairs[index], ("RGB", "L"), strict=True)
        )
        image, mask = plain_crop(image, mask, self.size)
        return {"image": plain_tensor(image), "mask": torch.from_numpy(np.array(mask)).long()}


def plain_dropout(features: list[Tensor]) -> list[Tensor]:
    """The features, and the same with half of their channels dropped."""
    return [torch.cat([feature, dropout2d(feature, 0.5)]) for feature in features]


def full(logits: Tensor) -> Tensor:
    """Logits in float32; in float64 where the network is."""
    return logits if logits.dtype == torch.float64 else logits.float()


def plain_pixel_loss(logits: Tensor, labels: Tensor, confidence: Tensor, ignore: Tensor, threshold: float) -> Tensor:
    """Cross-entropy where the pseudo-label is confident and the pixel real, over all real pixels."""
    loss = cross_entropy(logits, labels, reduction="none") * ((confidence >= threshold) & (ignore != IGNORE))
    return loss.sum() / (ignore != IGNORE).sum().item()


def plain_supervised_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    labelled: dict[str, Tensor],
    *,
    autocast: AbstractContextManager,
) -> dict[str, float]:
    """One iteration on the labelled images alone."""
    with autocast:
        logits = network(labelled["image"])
    loss = cross_entropy(full(logits), labelled["mask"], ignore_index=IGNORE)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss": loss.item()}


def plain_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    labelled: dict[str, Tensor],
    unlabelled: dict[str, Tensor],
    partner: dict[str, Tensor],
    *,
    members: Sequence[nn.Module] = (),
    shares: Sequence[float] = (),
    weight: float = 0.0,
    autocast: AbstractContextManager,
    thresholds: tuple[float, float] = (0.95, 0.9),
) -> dict[str, float]:
    """One iteration of UniMatch, or with `members` of PrevMatch; returns what the published code logs."""
    weak, mixed = unlabelled["weak"], partner["weak"]
    with torch.no_grad():
        network.eval()
        with autocast:
            mixed_logits = full(network(mixed))
        network.train()
    strong = []
    for name, box in (("strong1", unlabelled["box1"]), ("strong2", unlabelled["box2"])):
        view, inside = unlabelled[name].clone(), box.unsqueeze(1).expand(weak.shape) == 1
        view[inside] = partner[name][inside]
        strong.append(view)
    with autocast:
        logits, perturbed = network(torch.cat([labelled["image"], weak]), plain_dropout).chunk(2)
        strong_logits = full(network(torch.cat(strong))).chunk(2)
    labelled_logits, weak_logits = full(logits).chunk(2)
    supervised = cross_entropy(labelled_logits, labelled["mask"], ignore_index=IGNORE)

    guides = [(weak_logits.detach(), mixed_logits, thresholds[0], 1.0)]
    if members:
        with torch.no_grad(), autocast:
            both = torch.cat([weak, mixed])
            answers = sum(share * full(member(both)) for share, member in zip(shares, members, strict=True))
            first, second = torch.as_tensor(answers).chunk(2)
        guides.append((first, second, thresholds[1], weight))
    total, log = supervised, {"supervised": supervised.item()}
    for number, (own, other, threshold, factor) in enumerate(guides):
        confidence, labels = own.softmax(dim=1).max(dim=1)
        other_confidence, other_labels = other.softmax(dim=1).max(dim=1)
        losses = [plain_pixel_loss(full(perturbed).chunk(2)[1], labels, confidence, unlabelled["ignore"], threshold)]
        for student, box in zip(strong_logits, (unlabelled["box1"], unlabelled["box2"]), strict=True):
            maps = []
            for outside, inside in (
                (labels, other_labels), (confidence, other_confidence), (unlabelled["ignore"], partner["ignore"])
            ):  # fmt: skip
                pasted = outside.clone()
                pasted[box == 1] = inside[box == 1]
                maps.append(pasted)
            losses.append(plain_pixel_loss(student, maps[0], maps[1], maps[2], threshold))
        guided = 0.5 * losses[0] + 0.25 * losses[1] + 0.25 * losses[2]
        total = total + factor * guided
        log |= {f"loss{number}.{i}": loss.item() for i, loss in enumerate(losses)}
        accepted = (confidence >= threshold) & (unlabelled["ignore"] != IGNORE)
        log[f"mask_ratio{number}"] = accepted.sum().item() / (unlabelled["ignore"] != IGNORE).sum().item()
    total = total / (1 + sum(factor for *_, factor in guides))
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return log | {"loss": total.item()}


@torch.no_grad()
def plain_sliding_window(network: nn.Module, image: Tensor, window: int, num_classes: int) -> Tensor:
    """Summed class probabilities (1, C, H, W) over overlapping windows, one after the other."""
    height, width = image.shape[-2:]
    scores = torch.zeros(1, num_classes, height, width, device=image.device)
    for top in range(0, height, int(window * 2 / 3)):
        for left in range(0, width, int(window * 2 / 3)):
            part = network(image[:, :, top : top + window, left : left + window])
            scores[:, :, top : top + window, left : left + window] += part.softmax(dim=1)
    return scores
