"""Checks of a training step on a GPU: arithmetic, views, waits, swapping, compiling. Sections of on_gpu.py."""

import argparse
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import swapping
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from on_gpu import Line
from steps import DEVICE, Sizes, made_up_batch, network_of
from torch import Tensor

from prevmatch.config import Partner, TrainConfig
from prevmatch.guides.previous import Previous
from prevmatch.loop import follow, supervised_loss_of, update, views_of
from prevmatch.losses import cross_entropy
from prevmatch.methods import METHODS, Forward, Method, method_of, step
from prevmatch.run.faults import Watch
from prevmatch.students import Student, build_student
from prevmatch.views import Views, build_views

GPU = DEVICE.type == "cuda"
CLASSES = 21


def new_accelerator(precision: str = "no", *, cpu: bool = False) -> Accelerator:
    """An Accelerator as if the process had just begun."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=cpu)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether convolutions and products may round what they multiply to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def wait() -> None:
    """Until the device has done all."""
    if GPU:
        torch.cuda.synchronize()


def settings(encoder: str, crop: int, **more: Any) -> TrainConfig:
    """Settings of a training step with random weights."""
    return TrainConfig(encoder=encoder, encoder_weights="none", crop_size=crop, batch_size=2, **more)


def student_of(config: TrainConfig, accelerator: Accelerator, *, members: int = 3) -> Student:
    """A new student, the same each time up to its device, with a filled bank if its method has one.

    The classifier is enlarged, so that a network that has learned nothing is sure of some pixels and unsure of others.
    """
    torch.manual_seed(0)
    source = SimpleNamespace(num_classes=CLASSES, class_names=(), palette=(), bits=None)
    data = cast(Any, SimpleNamespace(source=source, epoch_rows=range(100)))
    student = build_student(config, method_of(config), data, accelerator)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        *_, classifier = (m for m in student.network.decoder.modules() if isinstance(m, torch.nn.Conv2d))
        classifier.weight.mul_(20)
    for guide in student.guides:
        if not isinstance(guide, Previous):
            continue
        guide.weight = 0.5
        for _ in range(members):
            earlier = deepcopy(student.network)
            with torch.no_grad():
                for p in earlier.parameters():
                    noise = torch.randn(p.shape, generator=generator).to(p.device)
                    p.add_(0.02 * noise * p.std() if p.numel() > 1 else 0)
            guide.bank.push(earlier)
    return student


# ---------------------------------------------------------------------------------------------------------- views


def check_views(options: argparse.Namespace) -> Iterator[Line]:
    """Views made on the device against those made on the CPU, from the same batch."""
    sizes = Sizes(encoder="mobilenetv2_100", crop=65 if options.small else 321, batch=4 if options.small else 8)
    there = network_of(replace(sizes, decoder_channels=16)).to(DEVICE)
    here = deepcopy(there).cpu()
    batch = made_up_batch(sizes, 0)
    batch["valid"][:, -20:] = False
    copy = {name: value if name == "keys" else value.cpu() for name, value in batch.items()}
    for allowed, bound in ((False, 2e-4), (True, 2e-2)):
        worst, different = 0.0, 0
        for partner in ("independent", "batch", "reversed", "labelled"):
            with tf32(allowed):
                made = build_views(dict(batch), 2, seed=0, normalize=there.normalize, partner=cast(Partner, partner))
            expected = build_views(dict(copy), 2, seed=0, normalize=here.normalize, partner=cast(Partner, partner))
            for ours, theirs in zip(tensors_in(made), tensors_in(expected), strict=True):
                if theirs.is_floating_point():
                    worst = max(worst, (ours.cpu() - theirs).abs().max().item())
                else:
                    different += int((ours.cpu() != theirs).sum())
        yield Line(
            f"views on the device against the CPU's, {sizes.batch}+{sizes.batch}, crop {sizes.crop}, four partners, "
            f"tf32 {'on (default)' if allowed else 'off'}",
            f"{worst:.1e} of a standard deviation, {different} maps' pixels differ", f"≤ {bound:.0e}, 0",
            worst <= bound and different == 0, {"worst": worst, "different": different},
        )  # fmt: skip


def tensors_in(thing: Any) -> Iterator[Tensor]:
    """All tensors of nested tuples, in order."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, tuple):
        for part in thing:
            yield from tensors_in(part)


# ----------------------------------------------------------------------------------------------------------- step


@dataclass(frozen=True)
class Said:
    """What a step came to: its losses, and all gradients as one vector, float64 on the CPU."""

    losses: dict[str, float]
    gradient: Tensor


BOUNDS = {"float64": 1e-9, "fp32": 1e-3, "tf32": 5e-2, "bf16": 0.4, "fp16": 0.1}
"""Relative errors of the gradient that rounding explains, for ResNet-50; the losses' have a tenth of it."""


def fixed_channels(features: list[Tensor]) -> list[Tensor]:
    """UniMatch's perturbation with every second channel dropped, whatever the device and precision."""
    kept = [(torch.arange(f.shape[1], device=f.device) % 2 * 2).to(f.dtype).view(1, -1, 1, 1) for f in features]
    return [torch.cat([f, f * keep]) for f, keep in zip(features, kept, strict=True)]


def without_chance(method: Method) -> Method:
    """The method with features perturbed alike each time."""
    fixed = tuple(replace(f, perturb=fixed_channels) if f.perturb else f for f in method.forwards)
    return replace(method, forwards=cast(tuple[Forward, ...], fixed))


def moved(thing: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Nested tuples of tensors on a device; floats in dtype."""
    if isinstance(thing, Tensor):
        return thing.to(device, dtype if thing.is_floating_point() else None)
    if isinstance(thing, tuple):
        parts = [moved(part, device, dtype) for part in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else tuple(parts)
    return thing


def one_step(config: TrainConfig, given: Views, accelerator: Accelerator, *, double: bool = False) -> Said:
    """Loss and gradient of a step from the same weights, bank and views."""
    if accelerator.scaler is not None:
        accelerator.scaler._init_scale = 256.0  # a run would come down to a scale that fits; here one step must
    student = student_of(config, accelerator)
    if double:
        student.network.double()
        student.versions.frozen.dtype = torch.float64
        for guide in student.guides:
            if isinstance(guide, Previous):
                state = guide.bank.state_dict()
                guide.bank.load_state_dict(state | {"models": [doubled(m) for m in state["models"]]})
    given = moved(given, accelerator.device, torch.float64 if double else torch.float32)
    said = step([student], given, method=without_chance(method_of(config)), supervised_loss=cross_entropy)
    accelerator.backward(said.losses["loss"])
    wait()
    scale = accelerator.scaler.get_scale() if accelerator.scaler is not None else 1.0
    gradients = [p.grad.flatten().double().cpu() / scale for p in student.network.parameters() if p.grad is not None]
    return Said({name: value.item() for name, value in said.losses.items()}, torch.cat(gradients))


def doubled(version: dict[str, Tensor]) -> dict[str, Tensor]:
    """A version of a bank in float64."""
    return {name: t.double() if t.is_floating_point() else t for name, t in version.items()}


def step_check_views(config: TrainConfig) -> Views:
    """Views of smooth random images, on the CPU, as every mode gets them."""
    sizes = Sizes(crop=config.crop_size, batch=config.batch_size, classes=CLASSES)
    batch = {n: v if n == "keys" else v.cpu() for n, v in made_up_batch(sizes, 0).items()}
    for name in ("labelled", "weak", "partner"):
        rough = batch[name][..., ::16, ::16].float()
        batch[name] = torch.nn.functional.interpolate(rough, batch[name].shape[-2:], mode="bilinear").byte()
    statistics = network_of(Sizes(encoder="mobilenetv2_100", decoder_channels=16))
    return build_views(batch, 2, seed=0, normalize=statistics.normalize)


def check_step(options: argparse.Namespace) -> Iterator[Line]:
    """Loss and gradient of whole steps in every precision against float64 on the CPU."""
    encoder, crop = ("test_resnet", 65) if options.small else ("resnet50s", 129)
    modes = [("float64", "no", False), ("fp32", "no", False), ("tf32", "no", True), ("bf16", "bf16", True)]
    modes += [("fp16", "fp16", True)] if GPU else []
    for method in ("unimatch", "prevmatch"):
        config = settings(
            encoder, crop, method=method, confidence_threshold=0.3, previous_threshold=0.05, random_ensemble_size=False
        )
        given = step_check_views(config)
        expected = one_step(config, given, new_accelerator(cpu=True), double=True)
        for name, precision, allowed in modes:
            try:
                with tf32(allowed):
                    found = one_step(config, given, new_accelerator(precision), double=name == "float64")
            except Exception as error:  # the other precisions still have their turn
                traceback.print_exc()
                first = str(error).partition("\n")[0]
                yield Line(f"{method} step, {name}", f"{type(error).__name__}: {first}", "", False)
                continue
            loss = abs(found.losses["loss"] / expected.losses["loss"] - 1)
            gradient = ((found.gradient - expected.gradient).norm() / expected.gradient.norm()).item()
            norm = (found.gradient.norm() / expected.gradient.norm()).item()
            shares = ", ".join(f"{found.losses[n]:.2f}" for n in found.losses if n.endswith("mask_ratio"))
            bound = BOUNDS[name]
            yield Line(
                f"{method} step, {encoder}, crop {crop}, {name} against float64 on the CPU",
                f"loss {loss:.1e}, gradient {gradient:.1e}, its norm × {norm:.4f} (guides accept {shares})",
                f"loss ≤ {bound / 10:.0e}, gradient ≤ {bound:.0e}",
                loss <= bound / 10 and gradient <= bound,
                {"loss": loss, "gradient": gradient, "norm": norm, "losses": found.losses},
            )


# ---------------------------------------------------------------------------------------------------------- waits


def check_waits(options: argparse.Namespace) -> Iterator[Line]:
    """Whether the host waits for the device anywhere in a step: views, losses, backward, update, what follows."""
    crop, encoder = (65 if options.small else 129), "mobilenetv2_100"
    alone = [m for m in METHODS if m not in ("co_training", "semivl")]  # these need other encoders, or CLIP
    cases: list[tuple[str, str, dict[str, Any]]] = [(m, p, {}) for m in alone for p in ("no", "bf16")]
    cases += [("prevmatch", "no", {"partner": p}) for p in ("batch", "reversed", "labelled")]
    cases += [("prevmatch", "no", {"previous_ensemble": "weights", "threshold_kind": "classwise", "score": "ema"})]
    cases += [("prevmatch", "no", {"supervised_loss": "ohem", "optimizer": "adamw"})]
    cases += [("prevmatch", "fp16", {})] if GPU else []
    for method, precision, more in cases:
        config = settings(encoder, crop, method=method, **more)
        what = f"a step of {method}, {precision}" + "".join(f", {k} {v}" for k, v in more.items())
        run = whole_step(config, new_accelerator(precision), crop)
        for round_ in range(2):
            run(round_)
        wait()
        found, right = ("none", True) if GPU else ("not looked at without CUDA", None)
        try:
            if GPU:
                torch.cuda.set_sync_debug_mode("error")
            run(2)
        except RuntimeError as error:
            traceback.print_exc()
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "prevmatch" in f.filename]
            last = traceback.extract_tb(error.__traceback__)[-1]
            own = frames[-1] if frames else last
            place = f"{own.filename.rpartition('prevmatch/')[2]}:{own.lineno} ({own.line})"
            found, right = f"{str(error).partition(chr(10))[0][:80]} at {place}, in {last.name}", False
        finally:
            if GPU:
                torch.cuda.set_sync_debug_mode("default")
        if precision == "fp16":  # the gradient scaler asks whether a step overflowed: torch's own
            yield Line(f"the host waits in {what}", found, "once, in the gradient scaler's step", None)
        else:
            yield Line(f"the host waits in {what}", found, "none", right)


def whole_step(config: TrainConfig, accelerator: Accelerator, crop: int) -> Callable[[int], None]:
    """What the loop does with a batch that lies on the device."""
    student, method = student_of(config, accelerator), method_of(config)
    watch = Watch([student.network], accelerator, active=False)
    sizes = Sizes(crop=crop, batch=config.batch_size, classes=CLASSES)
    batches = [made_up_batch(sizes, r) for r in range(3)]

    def run(round_: int) -> None:
        with accelerator.accumulate(student.prepared):
            watch.begin()
            now = method.at(round_)
            views = views_of(dict(batches[round_]), now, student, config)
            said = step([student], views, method=now, supervised_loss=supervised_loss_of(config))
            accelerator.backward(said.losses["loss"])
            outcome = update([student], said.losses, 1e-4, watch, accelerator)
        follow([student], said.labelled, views.mask, outcome)

    return run


# ----------------------------------------------------------------------------------------------------------- swap


@torch.no_grad()
def check_swap(options: argparse.Namespace) -> Iterator[Line]:
    """Previous models that are copied from pinned memory on a side stream, against the same loaded plainly."""
    encoder, crop, count = ("mobilenetv2_100", 65, 3) if options.small else ("resnet50s", 321, 20)
    config = settings(encoder, crop, method="prevmatch", random_ensemble_size=True)
    student = student_of(config, new_accelerator(), members=8)
    guide = next(g for g in student.guides if isinstance(g, Previous))
    image = torch.randn(4, 3, crop, crop, device=DEVICE)
    versions = guide.bank.latest(len(guide.bank))
    pinned = all(version.flat.is_pinned() for version in versions)
    frozen, worst = student.versions.frozen, 0.0
    drawn = []
    for _ in range(count):  # all in the queue at once: whoever copies too early spoils an answer
        members = guide.bank.peek(config.ensemble_size)
        drawn.append((guide.label(image), members))
    for answer, members in drawn:
        expected: Any = 0
        for share, member in members:
            loaded = {name: tensor.to(DEVICE) for name, tensor in member.items()}
            expected = expected + share * frozen.logits(frozen.form(loaded), image)
        worst = max(worst, ((answer - expected).abs().max() / expected.abs().max()).item())
    yield Line(
        f"answers of previous models that were swapped in, {count} draws of 1 to 3 of 8, {encoder}",
        f"{worst:.1e} from those loaded plainly; pinned: {pinned}", "≤ 1e-6; pinned", worst <= 1e-6 and pinned == GPU,
        {"worst": worst, "pinned": pinned},
    )  # fmt: skip
    wait()
    started, rounds = time.perf_counter(), 40
    for r in range(rounds):
        guide.swap.start(versions[r % len(versions)])
        guide.swap.fetch(versions[r % len(versions)])
    wait()
    seconds = (time.perf_counter() - started) / rounds
    size = versions[0].flat.numel()
    yield Line(
        f"copy of a previous model, {size / 2**20:.0f} MiB",
        f"{1e3 * seconds:.2f} ms, {size / seconds / 1e9:.1f} GB/s",
        "", None, {"seconds": seconds, "bytes": size},
    )  # fmt: skip
    if GPU:
        del student, guide, members, versions, drawn
        sizes = Sizes(crop=129, batch=2) if options.small else Sizes(crop=321, batch=8)
        with torch.enable_grad():
            rows = swapping.benchmark(sizes, 8, torch.bfloat16)
        for row in rows:
            yield Line(row.what, row.ours.replace("*", ""), row.target)


# -------------------------------------------------------------------------------------------------------- compile


def check_compile(options: argparse.Namespace) -> Iterator[Line]:
    """torch.compile of the network: forward and backward equal the plain ones, and the time of both."""
    sizes = Sizes(encoder="test_resnet" if options.small else "resnet50s", crop=65 if options.small else 321)
    sizes = replace(sizes, batch=2 if options.small else 16, decoder_channels=8 if options.small else 256)
    network = network_of(sizes).to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.randn(sizes.batch, 3, sizes.crop, sizes.crop, device=DEVICE)

    def run(forward: Any) -> tuple[Tensor, Tensor]:
        network.zero_grad()
        torch.manual_seed(0)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            logits = forward(image, None, enlarged=False)
        logits.float().square().mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        return logits.detach().float(), gradient

    def seconds_of(forward: Any) -> float:
        times = []
        for _ in range(3 if options.small else 10):
            wait()
            started = time.perf_counter()
            run(forward)
            wait()
            times.append(time.perf_counter() - started)
        return sorted(times)[len(times) // 2]

    plain, again = run(network), run(network)
    started = time.perf_counter()
    quick = torch.compile(network)
    found = run(quick)
    wait()
    took = time.perf_counter() - started
    errors = [((a - b).norm() / b.norm()).item() for a, b in zip(found, plain, strict=True)]
    noise = [((a - b).norm() / b.norm()).item() for a, b in zip(again, plain, strict=True)]
    yield Line(
        f"torch.compile, {sizes.encoder}, {sizes.batch} images, crop {sizes.crop}, bf16, against plain",
        f"logits {errors[0]:.1e}, gradient {errors[1]:.1e} (plain twice: {noise[0]:.1e}, {noise[1]:.1e})",
        "≤ 5e-2, 3e-1", errors[0] <= 5e-2 and errors[1] <= 0.3, {"errors": errors, "noise": noise},
    )  # fmt: skip
    times = seconds_of(network), seconds_of(quick)
    yield Line(
        "forward and backward, plain and compiled",
        f"{1e3 * times[0]:.1f} and {1e3 * times[1]:.1f} ms, {times[0] / times[1]:.2f} ×; compiled in {took:.0f} s",
        "", None, {"plain": times[0], "compiled": times[1], "compiling": took},
    )  # fmt: skip
