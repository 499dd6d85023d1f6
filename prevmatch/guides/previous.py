"""A random ensemble of the student's earlier versions as its guide (PrevMatch, arXiv 2405.20610, section 3.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from prevmatch.bank import PreviousModels
from prevmatch.config import TrainConfig
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.thresholds import accepts_of
from prevmatch.run.state import TrainState
from prevmatch.run.swap import Packed, Swap
from prevmatch.schedule import triangle


def previous(config: TrainConfig, versions: Versions) -> Guide:
    """The student's earlier versions label, as many and as often as the settings say."""
    return Previous(
        name="previous",
        accepts=accepts_of(config, config.previous_threshold, versions.confidence),
        weighting=config.previous_weighting,
        config=config,
        versions=versions,
        bank=PreviousModels(config.bank_capacity, seed=config.seed),
        swap=Swap(versions.network.device),
    )


@dataclass(kw_only=True)
class Previous(Guide):
    """Versions from a bank, drawn anew for each step; they count by λ of the epoch."""

    config: TrainConfig
    versions: Versions
    bank: PreviousModels
    swap: Swap
    """Brings members to the device, each while the one before it answers, the next step's first during this one."""

    def begin(self, state: TrainState) -> None:
        """Let the network join the bank if it may; set λ."""
        if state.batch == 0 and joins_bank(self.config, state):
            self.bank.push(self.versions.network, epoch=state.epoch)
        self.weight = triangle(state.epoch, self.config.epochs) if len(self.bank) else 0.0

    def label(self, images: Tensor) -> Tensor:
        """The weighted sum of the drawn members' logits, or the logits of their weighted sum."""
        drawn = self.bank.draw(self.config.ensemble_size, random_size=self.config.random_ensemble_size)
        return self._answer(self._on_device(drawn), images)

    def preview(self, images: Tensor) -> Tensor | None:
        """The newest members with equal weights, which is what the random draws average to."""
        members = self.bank.latest(self.config.ensemble_size)
        if not members:
            return None
        return self._answer(((1 / len(members), self.swap.fetch(member)) for member in members), images)

    def facts(self, epoch: int) -> dict[str, Any]:
        """How many versions there are, and how many epochs ago each joined."""
        return {"bank": len(self.bank), "bank_ages": self.bank.ages(epoch)}

    def state_dict(self) -> dict[str, Any]:
        """The bank."""
        return self.bank.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.bank.load_state_dict(state)

    def _on_device(self, drawn: Sequence[tuple[float, Packed]]) -> Iterator[tuple[float, Packed]]:
        later = [member for _, member in drawn[1:]]
        if self.swap.copies:
            options = {"random_size": self.config.random_ensemble_size}
            later.append(self.bank.peek(self.config.ensemble_size, **options)[0][1])
        for place, (share, member) in enumerate(drawn):
            tensors = self.swap.fetch(member)
            for following in later[place : place + 1]:
                self.swap.start(following)
            yield share, tensors

    def _answer(self, members: Iterator[tuple[float, Packed]], images: Tensor) -> Tensor:
        if self.config.previous_ensemble == "weights":
            return self._of_their_average(members, images)
        return self._of_each(members, images)

    def _of_each(self, members: Iterator[tuple[float, Packed]], images: Tensor) -> Tensor:
        frozen = self.versions.frozen
        parts = (share * frozen.logits(frozen.form(tensors), images) for share, tensors in members)
        return sum(parts, start=next(parts))

    def _of_their_average(self, members: Iterator[tuple[float, Packed]], images: Tensor) -> Tensor:
        frozen, mean = self.versions.frozen, dict[str, Tensor]()
        for share, tensors in members:
            for name, tensor in tensors.items():
                if not tensor.is_floating_point():  # counters, which nothing reads in eval mode
                    mean[name] = tensor
                elif name in mean:
                    mean[name].add_(tensor, alpha=share)
                else:
                    mean[name] = share * tensor
        return frozen.logits(frozen.form(mean), images)


def joins_bank(config: TrainConfig, state: TrainState) -> bool:
    """Whether the network joins the bank before the epoch that now begins, as published or by interval."""
    if state.epoch < config.bank_start_epoch:
        return False
    if config.bank_policy == "best":
        return state.improved
    return state.epoch > 0 and state.epoch % config.bank_interval == 0
