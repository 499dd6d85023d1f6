"""Convolutions whose gradients a CPU's library (oneDNN) computes slowly, computed another way: same values, sooner.

Times are in benchmarks/RESULTS.md. Answers, weights and their names are those of `nn.Conv2d`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

FEW_TAPS = 0.5
"""Share of products without a zero of the padding in them, below which taps are taken one by one."""


class QuickConv2d(nn.Conv2d):
    """An `nn.Conv2d` whose gradients take the quicker way on a CPU."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, h, w), as `nn.Conv2d` does."""
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        half = images.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu")
        native = max(self.stride) > 1 and not half  # strided ones are slow only in less than float32
        if traced or native or images.device.type != "cpu" or not torch.is_grad_enabled() or self.bias is not None:
            return super().forward(images)
        return _Convolution.apply(images, self.weight, self.stride, self.padding, self.dilation, self.groups)


def quicken(network: nn.Module) -> None:
    """Make the convolutions of a network quick ones where that can pay, in place.

    These are dilated ones that keep the size, and depthwise ones that change it: the first are slow in any precision,
    the others in less than float32.
    """
    for module in network.modules():
        if type(module) is not nn.Conv2d or module.bias is not None or module.padding_mode != "zeros":
            continue
        if isinstance(module.padding, str) or not all(k % 2 for k in module.kernel_size):
            continue
        depthwise = module.groups == module.in_channels == module.out_channels > 1
        same = tuple(d * (k // 2) for d, k in zip(module.dilation, module.kernel_size, strict=True))
        dilated = max(module.dilation) > 1 and module.padding == same and max(module.stride) == 1
        strided = max(module.stride) > 1 and max(module.dilation) == 1
        if (dilated and (depthwise or module.groups == 1)) or (strided and depthwise):
            module.__class__ = QuickConv2d


class _Convolution(torch.autograd.Function):
    """conv2d with gradients of our own."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, stride: tuple, padding: tuple, dilation: tuple, groups: int
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.settings = (stride, padding, dilation, groups)
        return conv2d(images, weight, None, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (images, weight), (stride, padding, dilation, groups) = ctx.saved_tensors, ctx.settings
        needed = list(ctx.needs_input_grad[:2])
        if groups > 1:
            found = _depthwise(gradient, images, weight, stride, padding, dilation, needed)
        else:
            images, weight = images.to(gradient.dtype), weight.to(gradient.dtype)
            by_taps = needed[1] and _share_of_taps(images, weight, dilation) < FEW_TAPS
            native = [needed[0], needed[1] and not by_taps]
            found = _native(gradient, images, weight, stride, padding, dilation, groups, native)
            if by_taps:
                found = found[0], _weight_by_taps(gradient, images, weight, dilation)
        return *found, None, None, None, None


def _native(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    needed: list,
) -> tuple[Tensor | None, Tensor | None]:
    """The library's gradients of images and weight."""
    found = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, stride, padding, dilation, False, (0, 0), groups, [*needed, False]
    )
    return found[0], found[1]


def _depthwise(
    gradient: Tensor, images: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: tuple, needed: list
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a depthwise convolution, in no less than float32, and without dilation.

    A dilated convolution is a plain one on each of the phases of its images: every dilation-th row and column.
    """
    size, precise = images.shape[-2:], torch.promote_types(gradient.dtype, torch.float32)
    gradient, images, weight = gradient.to(precise), images.to(precise), weight.to(precise)
    if max(dilation) > 1:
        gradient, images = _phases(gradient, dilation), _phases(images, dilation)
        padding = tuple(p // d for p, d in zip(padding, dilation, strict=True))
    one = (1, 1)
    by_images, by_weight = _native(gradient, images, weight, stride, padding, one, len(weight), needed)
    if by_images is not None and max(dilation) > 1:
        by_images = _joined(by_images, dilation, size)
    return by_images, by_weight


def _phases(images: Tensor, dilation: tuple) -> Tensor:
    """(B, C, H, W), with zeros up to multiples of the dilation, as (phases · B, C, H / dilation, W / dilation)."""
    (rows, columns), (height, width) = dilation, images.shape[-2:]
    pixels = pad(images, (0, -width % columns, 0, -height % rows)).permute(0, 2, 3, 1)
    pixels = pixels.unflatten(2, (-1, columns)).unflatten(1, (-1, rows))  # (B, h, rows, w, columns, C)
    return pixels.permute(2, 4, 0, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


def _joined(phases: Tensor, dilation: tuple, size: torch.Size) -> Tensor:
    """The reverse of `_phases`, for images of a size (H, W)."""
    (rows, columns), (height, width) = dilation, size
    pixels = phases.permute(0, 2, 3, 1).unflatten(0, (rows, columns, -1)).permute(2, 3, 0, 4, 1, 5)
    return pixels.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)


def _overlaps(size: int, kernel: int, dilation: int) -> list[tuple[slice, slice]]:
    """For each tap along one axis: which outputs it serves, and which inputs it reads for them."""
    shifts = [(tap - kernel // 2) * dilation for tap in range(kernel)]
    outputs = [(min(max(0, -s), size), max(min(size, size - s), 0)) for s in shifts]
    return [(slice(a, b), slice(a + s, b + s)) for (a, b), s in zip(outputs, shifts, strict=True)]


def _share_of_taps(images: Tensor, weight: Tensor, dilation: tuple) -> float:
    """The share of a convolution's products that have no zero of the padding in them."""
    share = 1.0
    for size, kernel, step in zip(images.shape[-2:], weight.shape[-2:], dilation, strict=True):
        share *= sum(max(0, o.stop - o.start) for o, _ in _overlaps(size, kernel, step)) / (size * kernel)
    return share


def _weight_by_taps(gradient: Tensor, images: Tensor, weight: Tensor, dilation: tuple) -> Tensor:
    """The weight's gradient (O, I, k, k), each tap a matrix product over the pixels that it sees."""
    out, channels, height, width = weight.shape
    found = gradient.new_zeros(out, height, width, channels)
    gradient, images = gradient.permute(0, 2, 3, 1), images.permute(0, 2, 3, 1)
    (rows, columns) = (
        _overlaps(size, kernel, step)
        for size, kernel, step in zip(images.shape[1:3], (height, width), dilation, strict=True)
    )
    for i, (row, image_row) in enumerate(rows):
        for j, (column, image_column) in enumerate(columns):
            seen = gradient[:, row, column].flatten(0, 2)
            if len(seen):
                found[:, i, j] = seen.T @ images[:, image_row, image_column].flatten(0, 2)
    return found.permute(0, 3, 1, 2)
