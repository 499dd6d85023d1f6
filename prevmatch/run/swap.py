"""Bringing versions of a network from host memory to the device, ahead of their use, into two standing places."""

from collections.abc import Mapping

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes; more than any dtype needs


class Packed(dict[str, Tensor]):
    """Tensors by name that lie one behind the other in `flat`, so that a single copy moves them all."""

    flat: Tensor
    """uint8; pinned where there is CUDA."""


def pack(tensors: Mapping[str, Tensor], device: torch.device | str = "cpu", *, copy: bool = True) -> Packed:
    """Lay tensors out in one piece of memory on a device, with the same shapes, strides and dtypes.

    Without `copy` the memory stays as it is.
    """
    sizes = {name: -(-t.numel() * t.element_size() // ALIGNMENT) * ALIGNMENT for name, t in tensors.items()}
    pinned = torch.device(device).type == "cpu" and torch.cuda.is_available()
    packed = Packed()
    packed.flat = torch.empty(sum(sizes.values()), dtype=torch.uint8, device=device, pin_memory=pinned)
    for (name, tensor), place in zip(tensors.items(), packed.flat.split(list(sizes.values())), strict=True):
        values = place[: tensor.numel() * tensor.element_size()].view(tensor.dtype)
        dense = torch.empty_like(tensor, device="meta")  # the strides of a copy: without the gaps of a slice
        packed[name] = values.as_strided(dense.shape, dense.stride())
        if copy:
            packed[name].copy_(tensor)
    return packed


class Swap:
    """Two places on the device that versions take in turns: while one answers, the next is copied beside it.

    On the CPU versions are used where they lie. With CUDA `start` copies on a stream of its own; `fetch` makes the
    current stream wait for that copy, and `start` waits until the version that lay there before has been used.
    """

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.device = device
        self.places: list[Packed] = []
        self.started: list[tuple[Packed, Packed]] = []
        self.turn = 0

    @property
    def copies(self) -> bool:
        """Whether versions are copied at all, so that starting early pays."""
        return self.stream is not None

    def start(self, version: Packed) -> None:
        """Begin to copy a version; those started are fetched in the same order, at most two at a time."""
        if self.stream is None:
            self.started.append((version, version))
            return
        if len(self.places) < 2:
            self.places.append(pack(version, self.device, copy=False))
        place = self.places[self.turn]
        self.turn = 1 - self.turn
        self.stream.wait_stream(torch.cuda.current_stream(self.device))  # whose work may still read the place
        with torch.cuda.stream(self.stream):
            place.flat.copy_(version.flat, non_blocking=True)
        self.started.append((version, place))

    def fetch(self, version: Packed) -> Packed:
        """The version on the device, once its copy is complete; started now if it was not."""
        if not self.started or self.started[0][0] is not version:
            self.started.clear()
            self.start(version)
        place = self.started.pop(0)[1]
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return place
