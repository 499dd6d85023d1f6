"""Benchmark of loading: unlabelled samples on one core, from the file's bytes to what a worker hands over."""

import io
from functools import partial

import numpy as np
import torch
from baseline import PlainUnlabelled
from PIL import Image
from timing import Row, compare, take_turns

from prevmatch.data.crops import crop_image, crop_valid, draw_crop
from prevmatch.data.reading import read_image
from prevmatch.views import build_views


def photo(width: int, height: int, seed: int) -> Image.Image:
    """A made-up photograph: soft shapes, edges and sensor noise, so that files are about as large as real ones."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    edges = np.kron(rng.integers(-40, 40, (height // 25 + 1, width // 25 + 1)), np.ones((25, 25), dtype=np.int16))
    noisy = pixels + edges[:height, :width, None] + rng.normal(0, 2.5, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(width: int, height: int, kind: str, count: int) -> list[bytes]:
    """That many image files of a kind that PIL writes."""
    files = []
    for seed in range(count):
        buffer = io.BytesIO()
        photo(width, height, seed).save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}))
        files.append(buffer.getvalue())
    return files


def our_sample(file: bytes, size: int, seed: int) -> dict[str, np.ndarray]:
    """What a worker does for one unlabelled image."""
    image = read_image({"id": "made up", "image": {"bytes": file, "path": None}})
    crop = draw_crop(np.random.default_rng(seed), *image.size, size)
    return {"weak": crop_image(image, crop), "valid": crop_valid(crop)}


def plain_samples(files: list[bytes], size: int, round_: int) -> None:
    """What a baseline worker does for each file."""
    samples = PlainUnlabelled(files, size)
    for i in range(len(files)):
        samples[i]


def our_samples(files: list[bytes], size: int, round_: int) -> None:
    """What our worker does for each file."""
    for i, file in enumerate(files):
        our_sample(file, size, round_ * len(files) + i)


def samples_and_views(files: list[bytes], size: int, round_: int) -> None:
    """The same, and the strong views of half of them, with the others as partners, made on the CPU."""
    half = len(files) // 2
    samples = [our_sample(file, size, round_ * len(files) + i) for i, file in enumerate(files)]
    stacked = {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in ("weak", "valid")}
    batch = {
        "weak": stacked["weak"][:half], "valid": stacked["valid"][:half], "partner": stacked["weak"][half:],
        "partner_valid": stacked["valid"][half:], "labelled": stacked["weak"][:0], "mask": stacked["valid"][:0],
        "keys": [(round_, i) for i in range(half)],
    }  # fmt: skip
    build_views(batch, 2, seed=0, normalize=lambda images: images / 255)


def benchmark(rounds: int) -> list[Row]:
    """Rows for Pascal-like and Cityscapes-like files, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    jpegs = encoded(500, 375, "JPEG", 16)
    pngs, bitmaps = (encoded(2048, 1024, kind, 6) for kind in ("PNG", "BMP"))
    photos = take_turns(
        {
            "plain": partial(plain_samples, jpegs, 321),
            "worker": partial(our_samples, jpegs, 321),
            "views": partial(samples_and_views, jpegs, 321),
        },
        rounds,
    )
    streets = take_turns(
        {
            "plain": partial(plain_samples, pngs, 801),
            "png": partial(our_samples, pngs, 801),
            "bmp": partial(our_samples, bitmaps, 801),
        },
        rounds,
    )
    torch.set_num_threads(threads)
    photo_row = partial(compare, baseline=photos["plain"], unit=len(jpegs))
    street_row = partial(compare, baseline=streets["plain"], unit=len(pngs))
    return [
        photo_row("unlabelled sample, JPEG 500×375 → 321, in the worker", ours=photos["worker"], target="≥ 6 ×"),
        photo_row("the same with the strong views, on a CPU", ours=photos["views"]),
        street_row("unlabelled sample, PNG 2048×1024 → 801", ours=streets["png"], target="≥ 2.5 ×"),
        street_row("the same from its decoded form (BMP)", ours=streets["bmp"], target="≥ 10 ×"),
    ]
