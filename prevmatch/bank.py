"""The bank of previous models: versions of one network, kept off the device and drawn at random."""

from collections import deque

import numpy as np
from torch import nn

from prevmatch.models.frozen import tensors_of
from prevmatch.run.swap import Packed, pack


class PreviousModels:
    """First-in-first-out memory of at most `capacity` versions of a network, as state dicts on the CPU.

    Versions are kept raw, as the network was. Each lies in one piece of memory, which is pinned where there is CUDA,
    so that one copy without a stop brings it to the device. Draws come from a generator of the bank's own: with one
    seed, and one draw per step, every process of a run draws the same models and weights, so the ensemble does not
    depend on how many processes share a batch.
    """

    def __init__(self, capacity: int, *, seed: int = 0):
        self._models: deque[Packed] = deque(maxlen=capacity)
        self._epochs: deque[int] = deque(maxlen=capacity)
        self._generator = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._models)

    def push(self, network: nn.Module, *, epoch: int = 0) -> None:
        """Add a copy of the network as it is before `epoch`; the oldest version leaves a full bank."""
        self._models.append(pack(tensors_of(network)))
        self._epochs.append(epoch)

    def ages(self, epoch: int) -> list[int]:
        """How many epochs before `epoch` each version joined, oldest first."""
        return [epoch - joined for joined in self._epochs]

    def draw(self, most: int, *, random_size: bool = True) -> list[tuple[float, Packed]]:
        """Draw members without replacement, with weights from a flat Dirichlet (paper, section 3.2).

        Their number is uniform in 1..most (or `most`), but no more than the bank holds.
        """
        size = int(self._generator.integers(1, most + 1)) if random_size else most
        size = min(size, len(self))
        members = self._generator.choice(len(self), size, replace=False)
        weights = self._generator.dirichlet(np.ones(size))
        return [(float(w), self._models[m]) for w, m in zip(weights, members, strict=True)]

    def peek(self, most: int, *, random_size: bool = True) -> list[tuple[float, Packed]]:
        """What the next `draw` will give, without drawing it."""
        state = self._generator.bit_generator.state
        drawn = self.draw(most, random_size=random_size)
        self._generator.bit_generator.state = state
        return drawn

    def latest(self, count: int) -> list[Packed]:
        """At most `count` of the newest versions, oldest first; unlike a draw this leaves the generator as it is."""
        return list(self._models)[-count:]

    def state_dict(self) -> dict:
        """The versions, oldest first, when they joined, and the generator's state; plain dicts, lists and tensors."""
        generator = self._generator.bit_generator.state
        return {"models": list(self._models), "epochs": list(self._epochs), "generator": generator}

    def load_state_dict(self, state: dict) -> None:
        """Take over what `state_dict` returned."""
        self._models = deque((pack(model) for model in state["models"]), maxlen=self._models.maxlen)
        self._epochs = deque(state["epochs"], maxlen=self._models.maxlen)
        self._generator.bit_generator.state = state["generator"]
