"""Benchmarks of iterations from files to the updated network, and of sliding-window evaluation, against the baseline.

An iteration is loading, views, step and update here; Accelerate, records and the gradient's norm come on top in a run.
"""

import io
import time
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch
from baseline import PlainLabelled, PlainUnlabelled, plain_sliding_window
from loading import encoded
from PIL import Image
from steps import DEVICE, Ours, Plain, Sizes, network_of
from timing import Apart, Row, compare, take_turns, wait
from torch import Tensor
from torch.utils.data import DataLoader

from prevmatch.data.loader import training_loader
from prevmatch.data.sources import Source, TrainingData, table
from prevmatch.evaluate import class_scores
from prevmatch.models.frozen import Frozen

FILES = 96


def encoded_mask(width: int, height: int) -> bytes:
    """A mask of blocks of class ids, as a PNG."""
    ids = np.kron(np.arange(48).reshape(6, 8) % 21, np.ones((height // 6 + 1, width // 8 + 1)))
    buffer = io.BytesIO()
    Image.fromarray(ids[:height, :width].astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def made_up_data(files: list[bytes], mask: bytes) -> TrainingData:
    """Image files in memory as a data set, each with the same mask."""
    cells = [{"bytes": file, "path": None} for file in files]
    images = table([str(i) for i in range(len(files))], cells, [{"bytes": mask, "path": None}] * len(files))
    names = tuple(f"class {i}" for i in range(21))
    source = Source(train=images, val=images, class_names=names, palette=((0, 0, 0),) * 21)
    return TrainingData(source=source, labelled=images, unlabelled=images)


def plain_batches(files: list[bytes], mask: bytes, sizes: Sizes) -> Generator[tuple[dict, dict, dict]]:
    """The baseline's three loaders, with one worker each as published, without end."""
    sets = [PlainLabelled([(file, mask) for file in files], sizes.crop)] + [PlainUnlabelled(files, sizes.crop)] * 2
    loaders = [
        DataLoader(s, sizes.batch, shuffle=True, drop_last=True, num_workers=1, pin_memory=DEVICE.type == "cuda")
        for s in sets
    ]
    while True:
        for streams in zip(*loaders, strict=True):
            yield tuple({name: t.to(DEVICE) for name, t in stream.items()} for stream in streams)  # type: ignore[misc]


def plain_iterations(sizes: Sizes, dtype: torch.dtype, count: int) -> Callable[[], float]:
    """The baseline's iterations: a function that gives the seconds of one, the mean over `count`."""
    files, mask, plain = encoded(500, 375, "JPEG", FILES), encoded_mask(500, 375), Plain(sizes, dtype)

    def seconds() -> float:
        streams = plain_batches(files, mask, sizes)
        try:
            return seconds_per_iteration(streams, lambda r, s: plain(r, 2, s), count)
        finally:
            streams.close()

    return seconds


def our_batches(data: TrainingData, sizes: Sizes, partner: str, workers: int) -> Generator[dict]:
    """Our one loader, without end."""
    loader = training_loader(
        data, batch_size=sizes.batch, processes=1, image_size=None, crop_size=sizes.crop, scale_range=(0.5, 2.0),
        seed=0, unlabelled=True, partners=partner == "independent", num_workers=workers,
    )  # fmt: skip
    while True:
        for batch in loader:
            yield {k: v if k == "keys" else v.to(DEVICE, non_blocking=True) for k, v in batch.items()}


def seconds_per_iteration(batches: Iterator, run: Callable, count: int) -> float:
    """The mean over `count` iterations, after one that also starts the workers."""
    run(0, next(batches))
    wait()
    started = time.perf_counter()
    for round_ in range(1, count + 1):
        run(round_, next(batches))
    wait()
    return (time.perf_counter() - started) / count


def benchmark_iterations(
    sizes: Sizes, rounds: int, *, count: int, plain_dtype: torch.dtype, dtypes: dict[str, torch.dtype], workers: int
) -> list[Row]:
    """Rows for PrevMatch with two previous models, from files to the updated network."""
    data = made_up_data(encoded(500, 375, "JPEG", FILES), encoded_mask(500, 375))
    forms = {name: Ours(sizes, dtype) for name, dtype in dtypes.items()}
    forms |= {f"{name}, --partner batch": Ours(sizes, dtype, "batch") for name, dtype in dtypes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ("plain", *forms)}
    with Apart(plain_iterations, sizes, plain_dtype, count) as plain:
        for _ in range(rounds):
            seconds["plain"].append(plain())
            for name, ours in forms.items():
                batches = our_batches(data, sizes, ours.partner, workers)
                run = lambda r, b, ours=ours: ours(r, 2, b)  # noqa: E731
                seconds[name].append(seconds_per_iteration(batches, run, count))
                batches.close()
    what = (
        f"PrevMatch loading, views, step and update, {sizes.encoder}, {sizes.batch}+{sizes.batch}, crop {sizes.crop}"
    )
    target = "≥ 2 ×" if DEVICE.type == "cpu" else "≥ 4 ×"
    return [compare(f"{what}, {n}", np.array(seconds["plain"]), np.array(seconds[n]), target) for n in forms]


def noise_image(height: int, width: int) -> Tensor:
    """A normalised image (1, 3, H, W)."""
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0)).to(DEVICE)


def plain_windows(sizes: Sizes, height: int, width: int, window: int) -> Callable[[int], None]:
    """The baseline's evaluation of one image."""
    network, image = network_of(sizes).eval().to(DEVICE), noise_image(height, width)

    @torch.no_grad()
    def run(_: int) -> None:
        plain_sliding_window(network, image, window, sizes.classes)

    return run


@torch.no_grad()
def benchmark_windows(sizes: Sizes, rounds: int, *, height: int, width: int, window: int) -> list[Row]:
    """A row for sliding-window evaluation of one image in fp32; raises ValueError if the scores are not the same."""
    image = noise_image(height, width)
    network = network_of(sizes).eval().to(DEVICE).to(memory_format=torch.channels_last)
    frozen = Frozen(network)
    with Apart(plain_windows, sizes, height, width, window) as plain:
        seconds = take_turns(
            {"plain": plain, "ours": lambda _: class_scores(frozen.of(network), image, window)}, rounds
        )
    expected = plain_sliding_window(network_of(sizes).eval().to(DEVICE), image, window, sizes.classes)
    difference = (expected - class_scores(frozen.of(network), image, window)).abs().max().item()
    if difference > 1e-3:
        raise ValueError(f"scores differ by {difference}")
    what = f"sliding window {window} over {width}×{height}, {sizes.encoder}, fp32, scores equal to {difference:.0e}"
    return [compare(what, seconds["plain"], seconds["ours"], "≥ 1.25 ×" if DEVICE.type == "cpu" else "≥ 2.5 ×")]
