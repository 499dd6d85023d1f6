"""Benchmarks of a training step and of previous guidance, our form of it and the baseline's."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Literal

import numpy as np
import torch
from baseline import plain_step, plain_supervised_step
from timing import Apart, Row, compare, spread, take_turns
from torch import Tensor, nn

from prevmatch.bank import PreviousModels
from prevmatch.config import Partner, SegmenterConfig, TrainConfig
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.itself import itself
from prevmatch.guides.previous import previous
from prevmatch.losses import cross_entropy
from prevmatch.methods import PREVMATCH, SUPERVISED, UNIMATCH, step
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.convolutions import quicken
from prevmatch.run.swap import Swap, pack
from prevmatch.students import build_optimizer
from prevmatch.views import build_views

LAMBDA = 0.5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is trained in a benchmark."""

    encoder: str = "resnet50s"
    crop: int = 257
    batch: int = 2
    classes: int = 21
    decoder_channels: int = 256
    capacity: int = 8


def autocast_of(dtype: torch.dtype) -> AbstractContextManager:
    """Autocast, or nothing in fp32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(DEVICE.type, dtype)


def network_of(sizes: Sizes) -> Segmenter:
    """A new network in train mode, in the default memory format."""
    torch.manual_seed(0)
    architecture = SegmenterConfig(
        encoder=sizes.encoder, num_classes=sizes.classes, decoder_channels=sizes.decoder_channels
    )
    return Segmenter(architecture).train()


def made_up_batch(sizes: Sizes, round_: int) -> dict:
    """A loader's batch of random pixels, on the device."""
    generator = torch.Generator().manual_seed(round_)
    b, s = sizes.batch, sizes.crop
    names = ("labelled", "weak", "partner")
    images = {n: torch.randint(0, 256, (b, 3, s, s), dtype=torch.uint8, generator=generator) for n in names}
    maps = {name: torch.ones(b, s, s, dtype=torch.bool) for name in ("valid", "partner_valid")}
    mask = torch.randint(0, sizes.classes, (b, s, s), generator=generator).byte()
    batch = {"mask": mask, **images, **maps}
    return {"keys": [(round_, i) for i in range(b)], **{k: t.to(DEVICE) for k, t in batch.items()}}


class BankOnDevice(PreviousModels):
    """A bank whose versions all lie on the device: what swapping is compared with."""

    def push(self, network: nn.Module, *, epoch: int = 0) -> None:
        """As the bank's own."""
        super().push(network, epoch=epoch)
        self._models[-1] = pack(self._models[-1], DEVICE)


@dataclass
class Ours:
    """Our step on one network, in one precision, with or without partners of its own."""

    sizes: Sizes
    dtype: torch.dtype = torch.float32
    partner: Partner = "independent"
    guide_dtype: torch.dtype | None = None
    bank_type: type[PreviousModels] = PreviousModels
    ensemble: Literal["logits", "weights"] = "logits"
    network: Segmenter = field(init=False)
    guides: dict[int, list[Guide]] = field(init=False)

    def __post_init__(self) -> None:
        self.network = network_of(self.sizes).to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if DEVICE.type == "cpu":
            quicken(self.network)
        self.optimizer = build_optimizer(TrainConfig(), self.network)
        dtype = self.guide_dtype or self.dtype
        frozen = Frozen(self.network, dtype, side=self.sizes.crop, context=partial(autocast_of, dtype))
        versions = Versions(0, self.network, frozen)
        bank = self.bank_type(self.sizes.capacity)
        for _ in range(self.sizes.capacity):
            bank.push(self.network)
        own = itself(TrainConfig(), versions)
        self.guides = {0: [own]}
        for n in range(1, 5):
            config = TrainConfig(ensemble_size=n, random_ensemble_size=False, previous_ensemble=self.ensemble)
            others = previous(config, versions)
            others.weight = LAMBDA
            others.bank = bank  # type: ignore[attr-defined]
            if self.bank_type is not PreviousModels:
                others.swap = Swap(torch.device("cpu"))  # type: ignore[attr-defined]
            self.guides[n] = [own, others]

    def __call__(self, round_: int, n: int | None = 0, batch: dict | None = None) -> None:
        """One iteration with n previous models (0: UniMatch, None: supervised), views included."""
        batch = dict(batch or made_up_batch(self.sizes, round_))
        method = SUPERVISED if n is None else PREVMATCH if n else UNIMATCH
        normalize = self.network.normalize
        views = build_views(batch, method.strong_views, seed=0, normalize=normalize, partner=self.partner)
        student = SimpleNamespace(prepared=self._float, guides=[] if n is None else self.guides[n])
        with autocast_of(self.dtype):
            said = step([student], views, method=method, supervised_loss=cross_entropy)
        said.losses["loss"].backward()
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-4
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _float(self, *inputs: object, **options: bool) -> Tensor:
        """As Accelerate hands over the answers of a network under autocast."""
        return self.network(*inputs, **options).float()


@dataclass
class Plain:
    """The baseline's step on one network; its views were made by the loader."""

    sizes: Sizes
    dtype: torch.dtype = torch.float32
    network: Segmenter = field(init=False)
    members: list[nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        self.network = network_of(self.sizes).to(DEVICE)
        self.members = [deepcopy(self.network).eval() for _ in range(self.sizes.capacity)]
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)

    def streams(self, round_: int) -> tuple[dict, dict, dict]:
        """What three loaders hand over: labelled, unlabelled, partner; random pixels, our boxes."""
        batch = made_up_batch(self.sizes, round_)
        views = build_views(batch | {"keys": batch["keys"]}, 2, seed=0, normalize=self.network.normalize)
        ignore = torch.zeros_like(views.mask)
        boxes = {f"box{i + 1}": view.box.float() for i, view in enumerate(views.strong)}
        strong = {f"strong{i + 1}": view.pool[: self.sizes.batch] for i, view in enumerate(views.strong)}
        unlabelled = {"weak": views.weak[: self.sizes.batch], "ignore": ignore, **strong, **boxes}
        return {"image": views.labelled, "mask": views.mask}, unlabelled, unlabelled

    def __call__(self, round_: int, n: int | None = 0, streams: tuple[dict, dict, dict] | None = None) -> None:
        """One iteration with n previous models (0: UniMatch, None: supervised)."""
        if n is None:
            labelled = (streams or self.streams(round_))[0]
            plain_supervised_step(self.network, self.optimizer, labelled, autocast=autocast_of(self.dtype))
            return
        chosen = np.random.default_rng(round_).choice(self.sizes.capacity, n, replace=False)
        plain_step(
            self.network, self.optimizer, *(streams or self.streams(round_)),
            members=[self.members[i] for i in chosen], shares=[1 / max(n, 1)] * n, weight=LAMBDA,
            autocast=autocast_of(self.dtype),
        )  # fmt: skip


def benchmark(
    sizes: Sizes,
    rounds: int,
    *,
    plain_dtype: torch.dtype,
    dtypes: dict[str, torch.dtype],
    drawn: tuple[int, ...] = (1, 2, 3),
    partners: bool = True,
) -> list[Row]:
    """Rows for UniMatch and for PrevMatch, the mean over `drawn` previous models, with data already loaded.

    The baseline's views are not counted, for its loader makes them; ours are. `partners` adds --partner batch.
    """
    forms = {name: Ours(sizes, dtype) for name, dtype in dtypes.items()}
    if "fp32" in dtypes:
        forms["fp32, --guide_precision bf16"] = Ours(sizes, guide_dtype=torch.bfloat16)
    if partners:
        forms |= {f"{name}, --partner batch": Ours(sizes, dtype, "batch") for name, dtype in dtypes.items()}
    batches = {r: made_up_batch(sizes, r) for r in range(rounds + 1)}
    with Apart(plain_steps, sizes, plain_dtype, rounds + 1) as plain:
        contestants: dict[str, Callable[[int], object]] = {}
        for n in (0, *drawn):
            contestants[f"plain {n}"] = partial(plain, n)
            contestants |= {f"{name} {n}": partial(run_ours, ours, n, batches) for name, ours in forms.items()}
        seconds = take_turns(contestants, rounds)
    mean = {name: np.mean([seconds[f"{name} {n}"] for n in drawn], axis=0) for name in ("plain", *forms)}
    what, rows = f"{sizes.encoder}, {sizes.batch}+{sizes.batch}, crop {sizes.crop}", []
    for name in forms:
        target = {"fp32": "≥ 1.15 ×", "bf16": "≥ 1.9 ×"}.get(name, "") if DEVICE.type == "cpu" else "≥ 2 ×"
        rows.append(compare(f"UniMatch step, {what}, {name}", seconds["plain 0"], seconds[f"{name} 0"], target))
        rows.append(compare(f"PrevMatch step, {what}, {name}", mean["plain"], mean[name], target))
    over = {name: 100 * (mean[name] / seconds[f"{name} 0"] - 1) for name in mean}
    for name in forms:
        target = "≤ +10 %" if "batch" in name else "≤ +18 %"
        title = f"previous guidance over UniMatch, mean of n = {', '.join(map(str, drawn))}, {name}"
        rows.append(Row(title, spread(over["plain"], "%"), spread(over[name], "%"), "", target))
    return rows


def plain_steps(sizes: Sizes, dtype: torch.dtype, rounds: int) -> Callable[[int, int], None]:
    """The baseline's step: a function of the number of previous models and of the round."""
    plain = Plain(sizes, dtype)
    streams = {r: plain.streams(r) for r in range(rounds)}
    return lambda n, round_: plain(round_, n, streams[round_])


def run_ours(ours: Ours, n: int, batches: dict[int, dict], round_: int) -> None:
    """Our step of a round."""
    ours(round_, n, batches[round_])
