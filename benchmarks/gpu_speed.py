"""How fast a training step is on a GPU beside the plain pipeline's, and what bounds it. Sections of on_gpu.py."""

import argparse
import gc
import platform
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from gpu_checks import GPU, tf32, wait
from on_gpu import Line
from steps import DEVICE, Ours, Plain, Sizes, made_up_batch
from torch.utils.flop_counter import FlopCounterMode

from prevmatch.errors import ConfigError

DRAWN = 2  # previous models in a PrevMatch step: the mean of 1, 2, 3
METHODS: dict[str, int | None] = {"supervised": None, "UniMatch": 0, "PrevMatch": DRAWN}
DIFFERENT = 4  # batches that take turns


# -------------------------------------------------------------------------------------------------------- machine


def machine(options: argparse.Namespace) -> Iterator[Line]:
    """Device and versions, and the ceilings of arithmetic, memory and launches."""
    name = torch.cuda.get_device_name() if GPU else f"cpu {platform.machine()}"
    packages = ", ".join(f"{p} {_version(p)}" for p in ("torch", "timm", "accelerate", "numpy", "prevmatch"))
    facts = ""
    if GPU:
        properties = torch.cuda.get_device_properties(0)
        facts = f"{properties.total_memory / 2**30:.0f} GiB, {properties.multi_processor_count} multiprocessors, "
        facts += f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, "
    yield Line("device", f"{name}; {facts}Python {platform.python_version()}, {packages}")
    for what, rate, unit in ceilings(options):
        yield Line(f"ceiling: {what}", f"{rate:.4g} {unit}", "", None, {"rate": rate, "unit": unit})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def ceilings(options: argparse.Namespace) -> Iterator[tuple[str, float, str]]:
    """What the device reaches at best: large products of matrices, large copies, launches of nothing."""
    side, count = (512, 2**20) if options.small else (8192, 2**30)
    for name, dtype, allowed in (
        ("bf16", torch.bfloat16, True), ("tf32", torch.float32, True), ("fp32", torch.float32, False)
    ):  # fmt: skip
        a, b = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in range(2))
        with tf32(allowed):
            seconds = seconds_of(lambda a=a, b=b: a @ b, 5 if name == "fp32" else 20)  # type: ignore[misc]
        yield f"product of {side}² matrices, {name}", 2e-12 * side**3 / seconds, "TFLOP/s"
    source, target = (torch.randint(0, 255, (count,), dtype=torch.uint8, device=DEVICE) for _ in range(2))
    seconds = seconds_of(lambda: target.copy_(source), 20)
    yield "copy on the device, bytes read and written", 2e-9 * count / seconds, "GB/s"
    host = torch.zeros(count // 4, dtype=torch.uint8, pin_memory=GPU)
    seconds = seconds_of(lambda: target[: len(host)].copy_(host, non_blocking=True), 10)
    yield "copy from pinned host memory", 1e-9 * len(host) / seconds, "GB/s"
    small = torch.zeros(8, device=DEVICE)
    seconds = seconds_of(lambda: [small.add_(1) for _ in range(200)], 10) / 200
    yield "launch of a small kernel from Python", 1e6 * seconds, "µs"


def seconds_of(run: Callable[[], object], repeats: int) -> float:
    """Seconds per call, by a clock on the device; the best of three times `repeats` calls."""
    run()
    found = []
    for _ in range(3):
        watch = Stopwatch()
        for _ in range(repeats):
            run()
        found.append(watch.seconds() / repeats)
    return min(found)


class Stopwatch:
    """Seconds of the device's work from here to `seconds()`: CUDA events, or the clock where there is no CUDA."""

    def __init__(self) -> None:
        wait()
        self.began = time.perf_counter()
        if GPU:
            self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self.events[0].record()

    def seconds(self) -> float:
        """Waits for the device."""
        if not GPU:
            return time.perf_counter() - self.began
        self.events[1].record()
        torch.cuda.synchronize()
        return 1e-3 * self.events[0].elapsed_time(self.events[1])


# ---------------------------------------------------------------------------------------------------------- speed


@dataclass
class Contestant:
    """A way to take a step: `run(round)`; what it keeps on the device; what its precision is."""

    run: Callable[[int], object]
    resident: int
    precision: str
    peak: int = 0
    flops: float = 0.0


def speed_321(options: argparse.Namespace) -> Iterator[Line]:
    """ResNet-50, 8+8 images, crop 321, 21 classes."""
    sizes = Sizes(crop=321, batch=8)
    yield from speed(replace(sizes, **SMALL) if options.small else sizes, 1 if options.small else 10, 60)


def speed_801(options: argparse.Namespace) -> Iterator[Line]:
    """ResNet-50, 4+4 images, crop 801, 19 classes."""
    sizes = Sizes(crop=801, batch=4, classes=19)
    try:
        yield from speed(replace(sizes, **SMALL) if options.small else sizes, 1 if options.small else 6, 75)
        return
    except torch.OutOfMemoryError as error:
        yield Line("crop 801, 4+4", f"does not fit: {str(error)[:150]}")
    gc.collect()
    torch.cuda.empty_cache()
    yield from speed(replace(sizes, batch=2), 4, 50)


def speed_dinov2(options: argparse.Namespace) -> Iterator[Line]:
    """DINOv2-S, 4+4 images, crop 518, 21 classes."""
    sizes = Sizes(encoder="vit_small_patch14_dinov2", crop=518, batch=4)
    small: dict[str, Any] = {"crop": 70, "batch": 2, "capacity": 2}
    try:
        yield from speed(replace(sizes, **small) if options.small else sizes, 1 if options.small else 6, 50)
    except ConfigError as error:
        yield Line("DINOv2-S, crop 518", "not available in this version", "", None, {"error": str(error)})


SMALL: dict[str, Any] = {"encoder": "mobilenetv2_100", "crop": 65, "batch": 2, "decoder_channels": 16, "capacity": 3}


def speed(sizes: Sizes, rounds: int, most: float) -> Iterator[Line]:
    """Step times, ours and the plain pipeline's in turns, their memory and arithmetic, and what bounds ours.

    Rounds end after `most` seconds. Ours makes its views within the time; the plain pipeline's loader made them.
    """
    ends = time.monotonic() + most
    batches = [made_up_batch(sizes, r) for r in range(DIFFERENT)]
    contestants = build(sizes, batches)
    for contestant in contestants.values():
        prepare(contestant, DIFFERENT)
    repeats = DIFFERENT // 2
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds):
        if round_ >= 2 and time.monotonic() > ends:
            break
        for name, contestant in contestants.items():
            with tf32(True):
                contestant.run(0)  # the allocator and the caches are its own again
                watch = Stopwatch()
                for repeat in range(repeats):
                    contestant.run((round_ * repeats + repeat) % DIFFERENT)
                seconds[name].append(watch.seconds() / repeats)
    what = f"{sizes.encoder}, {sizes.batch}+{sizes.batch}, crop {sizes.crop}, {sizes.classes} classes"
    for method in METHODS:
        for precision in ("bf16", "tf32"):
            yield compared(f"{method} step, {what}, {precision}", method, precision, contestants, seconds)
    for method in METHODS:
        for precision in ("bf16", "tf32"):
            yield bound(f"{method} {precision}, ours", contestants[f"{method} {precision} ours"])
    if GPU:
        yield tuned(contestants["UniMatch bf16 ours"])


def tuned(contestant: Contestant) -> Line:
    """What cuDNN's own trials of its kernels would gain, with shapes that it has tried."""
    found: dict[bool, list[float]] = {False: [], True: []}
    try:
        for round_ in range(5):
            for tries in found:
                torch.backends.cudnn.benchmark = tries
                for batch in range(DIFFERENT if round_ == 0 else 1):
                    contestant.run(batch)
                watch = Stopwatch()
                for batch in range(DIFFERENT):
                    contestant.run(batch)
                found[tries].append(watch.seconds() / DIFFERENT)
    finally:
        torch.backends.cudnn.benchmark = False
    usual, tried = (float(np.median(times[1:])) for times in found.values())
    return Line(
        "UniMatch bf16, ours, torch.backends.cudnn.benchmark off and on",
        f"{1e3 * usual:.1f} and {1e3 * tried:.1f} ms, {usual / tried:.2f} ×", "", None, {"off": usual, "on": tried},
    )  # fmt: skip


def build(sizes: Sizes, batches: list[dict]) -> dict[str, Contestant]:
    """Ours and the plain pipeline, in two precisions, each with the three methods."""
    found = {}
    for precision, dtype in (("bf16", torch.bfloat16), ("tf32", torch.float32)):
        before = allocated()
        ours = Ours(sizes, dtype)
        ours(0, 0, batches[0])  # brings momentum and gradients
        between = allocated()
        plain = Plain(sizes, dtype)
        streams = [plain.streams(r) for r in range(DIFFERENT)]
        with tf32(True):
            plain(0, 0, streams[0])
        after = allocated()
        for method, drawn in METHODS.items():
            found[f"{method} {precision} ours"] = Contestant(
                lambda r, o=ours, n=drawn: o(r, n, batches[r]),  # type: ignore[misc]
                between - before, precision,
            )  # fmt: skip
            found[f"{method} {precision} plain"] = Contestant(
                lambda r, p=plain, n=drawn, s=streams: p(r, n, s[r]),  # type: ignore[misc]
                after - between, precision,
            )  # fmt: skip
    return found


def allocated() -> int:
    """Bytes of tensors on the device."""
    wait()
    return torch.cuda.memory_allocated() if GPU else 0


def prepare(contestant: Contestant, rounds: int) -> None:
    """Warm up on every batch; note the peak of memory and the arithmetic of a step."""
    with tf32(True):
        for round_ in range(rounds):
            contestant.run(round_)
            if round_ == 1:
                before = allocated()
                if GPU:
                    torch.cuda.reset_peak_memory_stats()
        if GPU:
            wait()
            contestant.peak = torch.cuda.max_memory_allocated() - before + contestant.resident
        counter = FlopCounterMode(display=False)
        with counter:
            for round_ in range(2):
                contestant.run(round_)
        contestant.flops = counter.get_total_flops() / 2


def compared(
    what: str, method: str, precision: str, contestants: Mapping[str, Contestant], seconds: Mapping[str, list[float]]
) -> Line:
    """One method in one precision: both times, their ratio with quartiles, both peaks."""
    ours, plain = (f"{method} {precision} {who}" for who in ("ours", "plain"))
    times = {who: np.array(seconds[name]) for who, name in (("ours", ours), ("plain", plain))}
    low, middle, high = np.percentile(times["plain"] / times["ours"], [25, 50, 75])
    rate = 1e-12 * contestants[ours].flops / np.median(times["ours"])
    quartiles = {who: [float(q) for q in np.percentile(values, [25, 50, 75])] for who, values in times.items()}
    memory = {who: contestants[name].peak / 2**30 for who, name in (("ours", ours), ("plain", plain))}
    work = {who: 1e-12 * contestants[name].flops for who, name in (("ours", ours), ("plain", plain))}
    return Line(
        what,
        f"plain {1e3 * quartiles['plain'][1]:.1f} ms, ours {1e3 * quartiles['ours'][1]:.1f} ms "
        f"({1e3 * quartiles['ours'][0]:.1f}–{1e3 * quartiles['ours'][2]:.1f}), {middle:.2f} × ({low:.2f}–{high:.2f}); "
        f"peak plain {memory['plain']:.1f}, ours {memory['ours']:.1f} GiB; ours {rate:.0f} TFLOP/s of "
        f"{work['ours']:.2f} TFLOP (plain {work['plain']:.2f})",
        "", None,
        {"seconds": quartiles, "ratio": [low, middle, high], "rounds": len(times["ours"]), "peak_gib": memory,
         "tflop": work, "tflop_per_second": rate},
    )  # fmt: skip


ARITHMETIC = (
    "conv",
    "gemm",
    "xmma",
    "cutlass",
    "wgrad",
    "dgrad",
    "fprop",
    "implicit",
    "nvjet",
    "matmul",
    "flash",
    "fmha",
)


def bound(what: str, contestant: Contestant) -> Line:
    """What bounds a step: the time of its kernels by kind, the share in which the device is busy, and the time in
    which the host hands all of it over."""
    with tf32(True):
        contestant.run(0)
        watch = Stopwatch()
        began = time.perf_counter()
        for round_ in range(DIFFERENT):
            contestant.run(round_)
        host = (time.perf_counter() - began) / DIFFERENT
        whole = watch.seconds() / DIFFERENT
        kernels: dict[str, tuple[float, float]] = {}
        try:
            kernels = kernels_of(contestant) if GPU else {}
        except Exception:  # a machine that lets nobody look; the times stand
            traceback.print_exc()
    busy = sum(seconds for seconds, _ in kernels.values())
    count = sum(number for _, number in kernels.values())
    copies = sum(s for name, (s, _) in kernels.items() if name.lower().startswith(("memcpy", "memset")))
    products = sum(s for name, (s, _) in kernels.items() if any(word in name.lower() for word in ARITHMETIC))
    rest = busy - copies - products
    if not kernels:
        verdict = "not known, kernels were not listed"
    elif busy < 0.8 * whole:
        verdict = "launches: the device waits for the host"
    else:
        verdict = "arithmetic: convolutions and products" if products > rest + copies else "bytes: everything else"
    rate = 1e-12 * contestant.flops / products if products else 0.0
    longest = sorted(kernels.items(), key=lambda item: -item[1][0])[:12]
    return Line(
        f"what bounds {what}",
        f"{verdict}; busy {busy / whole:.0%} of {1e3 * whole:.1f} ms, products {products / whole:.0%} (at {rate:.0f} "
        f"TFLOP/s), other kernels {rest / whole:.0%}, copies {copies / whole:.0%}, {count:.0f} kernels, "
        f"host {1e3 * host:.1f} ms",
        "", None,
        {"seconds": whole, "host": host, "busy": busy, "products": products, "other": rest, "copies": copies,
         "kernels": count, "longest": [[name[:120], s, n] for name, (s, n) in longest]},
    )  # fmt: skip


def kernels_of(contestant: Contestant) -> dict[str, tuple[float, float]]:
    """Seconds and number of each kernel in a step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for round_ in range(2):
            contestant.run(round_)
        torch.cuda.synchronize()
    found: dict[str, tuple[float, float]] = {}
    for event in profiler.events() or ():
        named = event.name.startswith(("Optimizer", "ProfilerStep")) or getattr(event, "is_user_annotation", False)
        if event.device_type == torch.autograd.DeviceType.CUDA and not named:
            seconds, number = found.get(event.name, (0.0, 0.0))
            found[event.name] = seconds + 1e-6 * event.time_range.elapsed_us() / 2, number + 0.5
    return found
