"""Looking at every photo before training: which cannot be read, and which look alike; remembered from run to run."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from huggingface_hub import cached_assets_path
from PIL import Image

from prevmatch.data.cells import open_cell
from prevmatch.data.images import as_rgb
from prevmatch.data.masks import ROWS, is_flat
from prevmatch.errors import DataError
from prevmatch.progress import progress
from prevmatch.writing import write_text

SIDE = 16
ALIKE = 26
"""Of the 256 bits of a hash so many may differ between copies of a photo: other compression, size, brightness."""
VERSION = 3
"""Of what the cache holds."""
FEWEST_EDGES = 32
"""A picture with fewer bits set is too smooth to tell copies by."""


@dataclass(frozen=True)
class Seen:
    """What is known of a photo that was looked at."""

    problem: str
    """Why it cannot be read; empty if it can."""
    hash: str
    """Which of two neighbours is lighter, in a picture of 17×16, as 64 hexadecimal digits."""
    pages: int = 1
    """How many a TIFF has, or frames a GIF; the first one is read."""
    flat: bool = False
    """Whether it looks like a mask."""


def see(rows: datasets.Dataset) -> list[Seen]:
    """Look at the photo of every row, several at a time; those that a cache knows unchanged are not decoded again."""
    cache = _Cache(rows)
    images = rows.select_columns(["id", "image"])
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow frees the interpreter
        bar = progress(pool.map(cache.through(_see), images), total=len(rows), desc="look at photos", unit="photo",
                       leave=False, delay=2)  # fmt: skip
        seen = list(bar)
    cache.save()
    return seen


def alike(first: list[Seen], second: list[Seen]) -> list[tuple[int, int]]:
    """Pairs (i, j) of photos in two lists that look like copies of each other, at most one for each of the first."""
    if not first or not second:
        return []
    ours, theirs = (np.array([_bits(seen.hash) for seen in group]) for group in (first, second))
    edges = theirs.sum(1)
    pairs = []
    for i, bits in enumerate(ours):
        distance = (bits[None] != theirs).sum(1)
        distance[edges < FEWEST_EDGES] = 256
        j = int(distance.argmin())
        if distance[j] <= ALIKE and bits.sum() >= FEWEST_EDGES:
            pairs.append((i, j))
    return pairs


def _bits(digits: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits or "00" * (SIDE * SIDE // 8)), dtype=np.uint8))


def _see(row: dict) -> Seen:
    try:
        image = open_cell(row, "image", small=4 * SIDE)
        colours = as_rgb(image)
        rows = colours.resize((colours.width, min(colours.height, ROWS)), Image.Resampling.NEAREST)
        pixels = np.asarray(colours.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)).astype(int)
    except DataError as error:
        return Seen(str(error), "")
    lighter = pixels[:, 1:] > pixels[:, :-1] + 2
    return Seen("", np.packbits(lighter).tobytes().hex(), _pages(image), is_flat(np.asarray(rows)))


def _pages(image: Image.Image) -> int:
    with suppress(Exception):  # what of a later page is broken does not matter
        return int(getattr(image, "n_frames", 1)) if image.format in ("TIFF", "GIF") else 1
    return 1


def _remembered(entry: object) -> Seen | None:
    """What a cache says of a photo, if that can be."""
    match entry:
        case [str(bits), int(pages), bool(flat)] if re.fullmatch(f"[0-9a-f]{{{SIDE * SIDE // 4}}}", bits):
            return Seen("", bits, pages, flat)
    return None


class _Cache:
    """What was seen of files, by their path, size and time; of one data set in one file."""

    def __init__(self, rows: datasets.Dataset):
        first = rows[0]["image"]["path"] if len(rows) else None
        name = hashlib.sha256(str(first and Path(first).absolute().parent).encode()).hexdigest()[:16]
        self.path: Path | None = None
        self.known: dict[str, list] = {}
        with suppress(OSError):
            folder = cached_assets_path("prevmatch", namespace="photos", subfolder="seen")
            self.path = folder / f"{name}-{VERSION}.json"
        with suppress(OSError, ValueError, TypeError):
            self.known = dict(json.loads(self.path.read_text()) if self.path else {})
        self.now: dict[str, list] = {}

    def through(self, look: Callable[[dict], Seen]) -> Callable[[dict], Seen]:
        def known_or_seen(row: dict) -> Seen:
            cell = row["image"]
            if cell["bytes"] is not None or cell["path"] is None:
                return look(row)
            try:
                stat = Path(cell["path"]).stat()
            except OSError:
                return look(row)
            key = f"{Path(cell['path']).absolute()} {stat.st_size} {stat.st_mtime_ns}"
            seen = _remembered(self.known.get(key)) or look(row)
            if not seen.problem:  # which may go away though the file stays: a limit, an extra that was missing
                self.now[key] = [seen.hash, seen.pages, seen.flat]
            return seen

        return known_or_seen

    def save(self) -> None:
        if self.path is not None and self.now and self.now != self.known:
            with suppress(OSError):
                write_text(self.path, json.dumps(self.now))
