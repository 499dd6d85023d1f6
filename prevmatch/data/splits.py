"""Which training images count as labelled: every N-th, published lists, or a draw that covers the classes."""

import math
import re
from collections.abc import Sequence

import datasets
import numpy as np

from prevmatch.data.lists import first_five
from prevmatch.errors import ConfigError, DataError


def every_nth(ids: Sequence[str], split: str) -> list[str]:
    """Return every N-th of the sorted ids, starting with the first, for a split named `1_N` (or `1/N`)."""
    match = re.fullmatch(r"1[_/](\d+)", split)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"split is {split!r} but must be 1_N: every N-th image is labelled, e.g. 1_16")
    return sorted(ids)[:: int(match[1])]


def select(
    train: datasets.Dataset, labelled_ids: Sequence[str], unlabelled_ids: Sequence[str] | None = None
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Divide the training table into (labelled, unlabelled) rows; unlabelled are all others unless they are named.

    Raises DataError if an id is not in the table, has no mask, stands in both parts, or if none is labelled.
    """
    rows = {name: i for i, name in enumerate(train["id"])}
    if len(rows) < len(train):
        double = [name for i, name in enumerate(train["id"]) if rows[name] != i]
        raise DataError(f"{len(double)} images have the id of another: {first_five(double)}; ids tell images apart")
    unknown = [name for name in (*labelled_ids, *(unlabelled_ids or ())) if name not in rows]
    if unknown:
        raise DataError(
            f"the split names {len(unknown)} images that the data does not have: {first_five(unknown)}; check that "
            "split and data folder belong together"
        )
    if not labelled_ids:
        raise DataError("the split names no labelled image; choose one with at least one")
    chosen = train.select([rows[name] for name in labelled_ids])
    bare = [name for name, mask in zip(labelled_ids, has_mask(chosen), strict=True) if not mask]
    if bare:
        raise DataError(f"the split calls {first_five(bare)} labelled without a mask; add masks or drop them")
    if unlabelled_ids is None:
        labelled = set(labelled_ids)
        unlabelled_ids = [name for name in rows if name not in labelled]
    elif both := sorted(set(labelled_ids) & set(unlabelled_ids)):
        raise DataError(f"the split has {len(both)} images in both of its lists: {first_five(both)}")
    return chosen, train.select(sorted(rows[name] for name in unlabelled_ids))


def has_mask(rows: datasets.Dataset) -> list[bool]:
    """Whether each row has a mask, without reading any."""
    return is_there(rows, "mask")


def is_there(rows: datasets.Dataset, column: str) -> list[bool]:
    """Whether each row has something in a column of images: bytes, or else a path."""
    return [
        cell is not None and (cell["bytes"] is not None or cell["path"] is not None)
        for cell in rows.with_format("arrow")[column].to_pylist()
    ]


def amount(wanted: str, total: int) -> int:
    """How many of `total` images `wanted` means: a number such as 100, or a share such as 5% (at least one image).

    Raises ConfigError if it is neither, or more than there are.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", wanted.strip())
    if match is None or (not match[2] and "." in match[1]):
        raise ConfigError(f"labelled is {wanted!r} but must be a number of images (100) or a share of them (5%)")
    count = max(1, math.floor(total * float(match[1]) / 100 + 0.5)) if match[2] else int(match[1])
    if not 1 <= count <= total:
        raise ConfigError(f"labelled is {wanted}, but {total} images have masks; ask for 1 to {total}")
    return count


def draw(presence: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Draw `count` of N images such that every class occurs if possible; returns sorted row numbers.

    presence: bool (N, C), whether a class occurs in an image. For each class that is still missing, rarest first, one
    of its images is drawn at random; where that needs more images than there are places, those that bring most
    missing classes go first. The other places are filled at random.
    """
    rng = np.random.default_rng((seed, 2))
    order = rng.permutation(len(presence))
    chosen = _covering(presence, order, count, greedy=False)
    if np.any(np.any(presence, axis=0) & ~np.any(presence[chosen], axis=0)):
        chosen = _covering(presence, order, count, greedy=True)
    rest = [int(i) for i in order if i not in set(chosen)]
    return np.sort(np.array(chosen + rest[: count - len(chosen)]))


def _covering(presence: np.ndarray, order: np.ndarray, count: int, *, greedy: bool) -> list[int]:
    """Images, at most `count`, that show the classes; of equally good ones the first in `order`."""
    missing = np.atleast_1d(np.any(presence, axis=0))
    chosen: list[int] = []
    while missing.any() and len(chosen) < count:
        if greedy:
            candidates, gain = order, presence[:, missing].sum(1)
        else:
            rarest = min(np.flatnonzero(missing), key=lambda c: presence[:, c].sum())
            candidates, gain = order[presence[order, rarest]], np.zeros(len(presence))
        best = int(max(candidates, key=lambda i: gain[i]))
        chosen.append(best)
        missing = missing & ~presence[best]
    return chosen
