"""What a GPU computes, without one: torch's fake tensors say that they lie on CUDA and have shapes but no values.

A tensor that was left on the CPU cannot be combined with them, and reading a value back raises: both would go
unnoticed in every other test. Only the backward pass needs a real device.
"""

import dataclasses
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from prevmatch.average import Average
from prevmatch.config import PredictConfig, SegmenterConfig
from prevmatch.evaluate import class_iou, sliding_window
from prevmatch.guides.guide import Versions
from prevmatch.guides.outside import Outside
from prevmatch.guides.previous import Previous
from prevmatch.guides.thresholds import ClassConfidence
from prevmatch.losses import cross_entropy, ohem_cross_entropy
from prevmatch.methods import METHODS, method_of, step
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.state import TrainState
from prevmatch.run.swap import Swap, pack
from prevmatch.use.predict import predict
from prevmatch.views import build_views

CUDA, CLASSES, BATCH, CROP = torch.device("cuda"), 5, 2, 48


@pytest.fixture
def cuda(monkeypatch):
    """A context in which tensors are fakes; streams and pinned memory, which need the driver, do nothing."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.no_grad())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    # It has no fake form.
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda beta: torch.zeros_like(beta.concentration1))
    return FakeTensorMode()


def config_of(encoder="test_resnet"):
    return SegmenterConfig(
        encoder=encoder, num_classes=CLASSES, decoder_channels=8, low_level_channels=4, atrous_rates=(1, 2, 3)
    )


def placed(network, mode):
    """A network with fakes on the device for its tensors; made of a real one, for timm measures encoders on `meta`."""
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None:
                    continue
                fake = mode.from_tensor(tensor.detach())
                with mode:
                    fake = fake.to(CUDA)
                    held[name] = torch.nn.Parameter(fake) if held is module._parameters else fake
    return network


def versions_of(encoders, mode, *, dtype=torch.float32, context=nullcontext):
    """Students on the device."""
    together = []
    for number, encoder in enumerate(encoders):
        network = Segmenter(config_of(encoder)).train()
        frozen = Frozen(network, dtype, side=CROP, context=context)
        average = Average(network, 0.9)  # copied before: a copy of fakes would have a mode of its own
        placed(network, mode)
        placed(average.network, mode)
        with mode:
            confidence = ClassConfidence(CLASSES, 0.9, CUDA)
        together.append(Versions(number, network, frozen, average, confidence, together))
    return together


def made_up_batch():
    images = {
        name: torch.zeros(BATCH, 3, CROP, CROP, dtype=torch.uint8, device=CUDA)
        for name in ("labelled", "weak", "partner")
    }
    maps = {name: torch.ones(BATCH, CROP, CROP, dtype=torch.bool, device=CUDA) for name in ("valid", "partner_valid")}
    return {
        "keys": [(0, i) for i in range(BATCH)],
        "mask": torch.zeros(BATCH, CROP, CROP, device=CUDA),
        **images,
        **maps,
    }


def views_of(method, network, *, seed=0):
    return build_views(
        made_up_batch(), method.strong_views, seed=seed, normalize=network.normalize, partner=method.partner,
        draw=method.draw, box=method.box,
    )  # fmt: skip


def students_of(config, method, together, *, members=1):
    """With guides that are all awake; a bank of so many versions, a module from outside that is on the device."""
    students = []
    for versions in together:
        guides = []
        for build in method.guides:
            if getattr(build, "__name__", "") == "outside":
                scores = lambda images: images[:, [0, 1, 2, 0, 1]]  # noqa: E731
                guide = Outside(name="outside", accepts=lambda ids, sure: sure > 0.5, first=0.1, epochs=4,
                                versions=versions, scores=scores)  # fmt: skip
            else:
                guide = build(config, versions)
            if isinstance(guide, Previous):
                for _ in range(members):
                    guide.bank.push(versions.network)
                guide.begin(TrainState(epoch=1, batch=1))
            guides.append(guide)
        students.append(SimpleNamespace(prepared=versions.network, guides=guides))
    return students


def on_the_device(thing):
    if isinstance(thing, torch.Tensor):
        assert thing.device.type == "cuda"
    elif isinstance(thing, dict):
        [on_the_device(part) for part in thing.values()]
    elif isinstance(thing, tuple | list):
        [on_the_device(part) for part in thing]


def test_fakes_notice_what_they_are_for(cuda):
    with cuda:
        here, there = torch.zeros(2), torch.zeros(2, device=CUDA)
        with pytest.raises(RuntimeError, match="device"):
            here + there
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(DynamicOutputShapeException):
            there[there > 0]


OVER_VIT = [pytest.param(name, "test_vit", marks=[] if name == "unimatch_v2" else pytest.mark.variation)
            for name in METHODS]  # fmt: skip


@pytest.mark.parametrize(("name", "encoder"), [*((name, "test_resnet") for name in METHODS), *OVER_VIT])
def test_views_and_step_of_every_method(cuda, name, encoder):
    others = {"co_training": ("test_resnet.dct", "test_convnext"), "cps": (encoder,)}.get(name, ())
    config = dataclasses.replace(
        TINY, method=name, co_encoders=others if name == "co_training" else (), previous_guidance=True,
        threshold_kind="classwise", crop_size=CROP,
    )  # fmt: skip
    method = method_of(config)
    together = versions_of((encoder, *others), cuda)
    with cuda:
        students = students_of(config, method, together, members=3 if name == "prevmatch" else 1)
        for epoch in range(2):
            for guide in (guide for student in students for guide in student.guides):
                if not isinstance(guide, Previous):
                    guide.begin(TrainState(epoch=epoch))
            views = views_of(method.at(epoch), together[0].network, seed=epoch)
            loss = partial(cross_entropy, class_weight=torch.ones(CLASSES, device=CUDA))
            said = step(students, views, method=method.at(epoch), supervised_loss=loss)
            on_the_device([*views, said.losses, said.labelled])
            assert "previous/mask_ratio" in said.losses
            for versions, logits in zip(together, said.labelled, strict=True):
                versions.average.follow(logits, views.mask)
                versions.confidence.follow(logits, views.mask)
                on_the_device(list(versions.average.network.state_dict().values()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_step_under_autocast(cuda, monkeypatch, dtype):
    """Half precision in the networks, float32 in labels and losses."""
    monkeypatch.setattr("torch.amp.autocast_mode.torch.cuda.is_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    config = dataclasses.replace(TINY, crop_size=CROP)
    context = partial(torch.autocast, "cuda", dtype)
    together = versions_of(("test_resnet",), cuda, dtype=dtype, context=context)
    with cuda:
        network, seen = together[0].network, []
        network.decoder.classifier.register_forward_hook(lambda module, given, answer: seen.append(answer.dtype))
        plain = network.forward
        students = students_of(config, METHODS["prevmatch"], together)

        def prepared(*args, **options):
            with context():
                return plain(*args, **options).float()  # as Accelerate does

        students[0].prepared = prepared
        said = step(
            students,
            views_of(METHODS["prevmatch"], network),
            method=METHODS["prevmatch"],
            supervised_loss=ohem_cross_entropy,
        )
        assert set(seen) == {dtype}
        assert {value.dtype for value in said.losses.values()} == {torch.float32}
        on_the_device(said.losses)


@pytest.mark.parametrize("previous_ensemble", ["logits", "weights"])
def test_members_of_the_bank_are_swapped_in(cuda, previous_ensemble):
    config = dataclasses.replace(TINY, previous_ensemble=previous_ensemble, random_ensemble_size=False)
    [versions] = versions_of(("test_resnet",), cuda)
    with cuda:
        [student] = students_of(config, METHODS["prevmatch"], [versions])
        guide = student.guides[1]
        assert guide.swap.copies
        versions_here = guide.bank.latest(3)
        assert all(tensor.device.type == "cpu" for version in versions_here for tensor in version.values())
        on_the_device(guide.label(torch.zeros(2, 3, CROP, CROP, device=CUDA)))
        on_the_device(guide.preview(torch.zeros(2, 3, CROP, CROP, device=CUDA)))
        on_the_device(guide.swap.places)
        swap, version = Swap(CUDA), pack({"a": torch.zeros(3), "b": torch.zeros(2, 2)})
        on_the_device(swap.fetch(version))


@pytest.mark.parametrize(("window", "inside"), [(None, False), (33, False), (32, True)])
def test_evaluation(cuda, monkeypatch, window, inside):
    """Images come from a loader on the CPU; what is counted stays on the device until the end.

    Counting itself reads a value back: torch's bincount asks for the largest number, once an image.
    """
    monkeypatch.setattr(torch, "bincount", lambda numbers, minlength: numbers.new_zeros(minlength))
    [versions] = versions_of(("test_resnet",), cuda)
    with cuda:
        samples = [
            (torch.zeros(3, 50, 70, dtype=torch.uint8), torch.zeros(50, 70, dtype=torch.uint8)) for _ in range(2)
        ]
        kept = []

        def reduce(confusion):
            on_the_device(confusion)
            return confusion

        iou = class_iou(
            versions.frozen.of(versions.network), samples, num_classes=CLASSES, normalize=versions.network.normalize,
            window=window, inside=inside, device=CUDA, reduce=reduce, show=False, keep=kept.append,
        )  # fmt: skip
        assert (iou.shape, iou.device.type) == ((CLASSES,), "cpu")
        on_the_device(kept)
        assert [ids.shape for ids in kept] == [(50, 70)] * 2


def test_sliding_window(cuda):
    network = placed(Segmenter(config_of("test_vit")).eval(), cuda)
    with cuda:
        scores = sliding_window(network, torch.zeros(2, 3, 70, 90, device=CUDA), 48, batch_size=4, inside=True)
        on_the_device(scores)
        assert scores.shape == (2, CLASSES, 70, 90)


@pytest.fixture
def arrays(monkeypatch):
    """What predict hands over: shapes, and that the values had been brought to the CPU."""

    def numpy(tensor):
        assert tensor.device.type == "cpu"
        return np.zeros(tuple(tensor.shape))

    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    monkeypatch.setattr(torch, "from_numpy", lambda array: torch.zeros(array.shape, dtype=torch.uint8))


@pytest.mark.parametrize("settings", [{}, {"flip": True, "scales": (0.5, 1.0)}, {"window": 32}, {"size": 100}])
@pytest.mark.parametrize("probabilities", [False, True])
def test_predict(cuda, arrays, settings, probabilities):
    network = placed(Segmenter(config_of()).eval(), cuda)
    with cuda:
        images = [np.zeros((40, 60, 3), np.uint8), np.zeros((70, 50, 3), np.uint8)]
        found = predict(network, images, PredictConfig(**settings), probabilities=probabilities)
        sizes = [(40, 60), (70, 50)]
        assert [each.shape for each in found] == [(CLASSES, *size) if probabilities else size for size in sizes]


def test_predict_in_tiles(cuda, arrays, monkeypatch):
    monkeypatch.setattr("prevmatch.use.predict.LARGEST", 900)
    network = placed(Segmenter(config_of()).eval(), cuda)
    with cuda:
        assert predict(network, np.zeros((70, 90, 3), np.uint8)).shape == (70, 90)
