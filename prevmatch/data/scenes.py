"""Which images show the same scene, so that they must not be divided between learning and validation."""

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import PurePosixPath

import datasets
import numpy as np

from prevmatch.data.verify import FEWEST_EDGES, SIDE, see

BITS = SIDE * SIDE
ALIKE = 0.15
"""Share of the bits by which two pictures of one scene differ at most, whatever they are called. Of frames of
CamVid and photos of cats that lie far apart, 99 of 100 pairs differ by more than 0.41."""
ALIKE_BY_NAME = 0.3
"""The same for pictures that are called as neighbours, `drive_0012` and `drive_0013`."""
SEQUENCE = re.compile(r"(^|[\W_])(frames?|frm|video|vid|seq|sequence|scene|clip|shot|take|mp4|avi|mov)([\W_\d]|$)")
"""Words by which names say that they count the frames of something."""


def scenes(ids: Sequence[str], looks: np.ndarray) -> np.ndarray:
    """The number of the scene that each image shows, int64 (N), from their names and `looks_of` them (N, 256).

    Images are of one scene if they look alike; if their names say that they are frames of one video, or copies of one
    photo that Roboflow has changed (`photo.rf.1a2b`); and if they are called as neighbours and look similar. Names
    alone do not say so: IMG_0001 to IMG_0020 may show anything.
    """
    parent = list(range(len(ids)))

    def join(i: int, j: int) -> None:
        parent[_root(parent, i)] = _root(parent, j)

    told_by_looks = looks.sum(1) >= FEWEST_EDGES  # others are too smooth
    for i, j in combinations(range(len(ids)), 2):
        differ = float(np.mean(looks[i] != looks[j])) if told_by_looks[i] and told_by_looks[j] else 1.0
        if differ <= ALIKE or (differ <= ALIKE_BY_NAME and _before_number(ids[i]) == _before_number(ids[j])):
            join(i, j)
    told = defaultdict(list)
    for i, name in enumerate(ids):
        if said := _told(name):
            told[said].append(i)
    if len(told) > 1 or len(next(iter(told.values()), [])) < len(ids):  # one video alone divides nothing
        for first, *others in told.values():
            for other in others:
                join(first, other)
    return np.unique([_root(parent, i) for i in range(len(ids))], return_inverse=True)[1]


def looks_of(rows: datasets.Dataset) -> np.ndarray:
    """Where each image of a table becomes lighter to the right, on a coarse grid: bool (N, 256), little changed by
    size and light; nothing for one that cannot be read. Whatever `see` remembers is not decoded again."""
    found = [np.frombuffer(bytes.fromhex(seen.hash or "00" * (BITS // 8)), dtype=np.uint8) for seen in see(rows)]
    return np.unpackbits(np.array(found, dtype=np.uint8).reshape(-1, BITS // 8), axis=1).astype(bool)


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = i = parent[parent[i]]
    return i


def _before_number(name: str) -> str:
    """A name without its last number; the whole name where it has none."""
    return re.sub(r"\d+(?=\D*$)", "#", name, count=1)


def _told(name: str) -> str | None:
    """What a name says that its image is a part of."""
    original, copied, _ = name.partition(".rf.")
    if copied:
        return original
    path = PurePosixPath(name)
    if SEQUENCE.search(path.name.lower()) and re.search(r"\d", path.name):
        return _before_number(name)
    parent = str(path.parent)
    return parent if SEQUENCE.search(parent.lower()) else None
