"""The step with all its shortcuts learns in float32 what benchmarks/baseline.py, written plainly, does in float64."""

import sys
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from prevmatch.bank import PreviousModels
from prevmatch.config import SegmenterConfig, TrainConfig
from prevmatch.guides.guide import Versions
from prevmatch.guides.itself import itself
from prevmatch.guides.previous import previous
from prevmatch.losses import cross_entropy
from prevmatch.methods import PREVMATCH, UNIMATCH, step
from prevmatch.mixing import paste
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.convolutions import quicken
from prevmatch.views import build_views

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from baseline import plain_step

STEPS, BATCH, CROP, CLASSES = 6, 4, 49, 3


def batch_of(number):
    generator = torch.Generator().manual_seed(number)
    images = {
        name: torch.randint(0, 256, (BATCH, 3, CROP, CROP), dtype=torch.uint8, generator=generator)
        for name in ("labelled", "weak", "partner")
    }
    maps = {name: torch.rand(BATCH, CROP, CROP, generator=generator) < 0.9 for name in ("valid", "partner_valid")}
    mask = torch.randint(0, CLASSES, (BATCH, CROP, CROP), generator=generator).byte()
    return {"keys": [(number, i) for i in range(BATCH)], "mask": mask, **images, **maps}


@pytest.fixture
def network():
    torch.manual_seed(0)
    config = SegmenterConfig(
        encoder="test_resnet", num_classes=CLASSES, decoder_channels=8, low_level_channels=4, atrous_rates=(1, 2, 18)
    )
    return Segmenter(config).train()


def sgd(network):
    return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


def guides_of(network, with_previous):
    config = TrainConfig(confidence_threshold=0.4, previous_threshold=0.35, bank_capacity=3, seed=5)
    versions = Versions(0, network, Frozen(network, side=CROP))
    guides = [build(config, versions) for build in (itself, previous)]
    guides[1].weight = 0.5
    return guides if with_previous else guides[:1]


def fast_curve(network, with_previous):
    network = network.to(memory_format=torch.channels_last)
    quicken(network)
    optimizer, guides = sgd(network), guides_of(network, with_previous)
    curve = []
    for number in range(STEPS):
        if with_previous:
            guides[1].bank.push(network)
        torch.manual_seed(number)
        views = build_views(batch_of(number), 2, seed=0, normalize=network.normalize)
        method = PREVMATCH if with_previous else UNIMATCH
        students = [SimpleNamespace(prepared=network, guides=guides)]
        losses, _ = step(students, views, method=method, supervised_loss=cross_entropy)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        curve.append(losses["loss"].item())
    return curve


def plain_curve(network, with_previous):
    """In float64, so that what the two curves differ by is the fast path's own rounding, on any processor."""
    network = network.double()
    optimizer, twin, members, curve = sgd(network), PreviousModels(3, seed=5), [], []
    for number in range(STEPS):
        twin.push(network)
        members = [*members, deepcopy(network).eval()][-3:]
        torch.manual_seed(number)
        batch = batch_of(number)
        views = build_views(batch, 2, seed=0, normalize=network.normalize)
        assert views.weak.dtype == torch.float64
        strong = {f"strong{i + 1}": paste(v.box, v.pool, v.donor) for i, v in enumerate(views.strong)}
        boxes = {f"box{i + 1}": view.box.float() for i, view in enumerate(views.strong)}
        ignore, partner_ignore = (torch.where(batch[name], 0, 255) for name in ("valid", "partner_valid"))
        drawn = twin.draw(3) if with_previous else []
        places = [next(i for i, m in enumerate(twin.state_dict()["models"]) if m is member) for _, member in drawn]
        losses = plain_step(
            network, optimizer, {"image": views.labelled, "mask": views.mask},
            {"weak": views.weak[:BATCH], "ignore": ignore, **strong, **boxes},
            {"weak": network.normalize(batch["partner"]), "ignore": partner_ignore, **strong},
            members=[members[i] for i in places], shares=[share for share, _ in drawn], weight=0.5,
            autocast=nullcontext(), thresholds=(0.4, 0.35),
        )  # fmt: skip
        curve.append(losses["loss"])
    return curve


@pytest.mark.parametrize("with_previous", [False, True], ids=["unimatch", "prevmatch"])
def test_fast_and_plain_path_have_one_loss_curve(network, with_previous):
    plain, fast = plain_curve(deepcopy(network), with_previous), fast_curve(network, with_previous)
    assert fast[0] == pytest.approx(plain[0], rel=1e-6)
    assert fast == pytest.approx(plain, rel=2e-3)  # each step enlarges what the one before it rounded
    assert abs(fast[0] - fast[-1]) > 0.01


class Waits(TorchDispatchMode):
    """Notes every operation whose result the host must know: it would wait for a GPU there."""

    OPERATIONS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in self.OPERATIONS:
            self.found.append(function.name())
        return function(*args, **kwargs or {})


def test_a_step_reads_nothing_back_from_the_device(network):
    guides = guides_of(network, True)
    guides[1].bank.push(network)
    views = build_views(batch_of(0), 2, seed=0, normalize=network.normalize)
    with Waits() as waits:
        build_views(batch_of(1), 2, seed=0, normalize=network.normalize)
        students = [SimpleNamespace(prepared=network, guides=guides)]
        losses, _ = step(students, views, method=PREVMATCH, supervised_loss=cross_entropy)
        losses["loss"].backward()
    assert waits.found == []
    with Waits() as waits:
        losses["loss"].item()
    assert waits.found == ["aten::_local_scalar_dense"]
