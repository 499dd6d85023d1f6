"""Which training images count as labelled."""

import re
from collections.abc import Sequence

import datasets

from prevmatch.errors import ConfigError, DataError


def every_nth(ids: Sequence[str], split: str) -> list[str]:
    """Return every N-th of the sorted ids, starting with the first, for a split named `1_N` (or `1/N`)."""
    match = re.fullmatch(r"1[_/](\d+)", split)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"split is {split!r} but must be 1_N: every N-th image is labelled, e.g. 1_16")
    return sorted(ids)[:: int(match[1])]


def select(train: datasets.Dataset, labelled_ids: Sequence[str]) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Divide the training table into (labelled, unlabelled) rows.

    Raises DataError if an id is not in the table, has no mask, or if one of the two parts is empty.
    """
    rows = {name: i for i, name in enumerate(train["id"])}
    unknown = [name for name in labelled_ids if name not in rows]
    if unknown:
        raise DataError(
            f"the split names {len(unknown)} images that the data does not have, {unknown[0]!r} for one; "
            "check that split and data folder belong together"
        )
    chosen = [rows[name] for name in labelled_ids]
    if not chosen:
        raise DataError("the split names no labelled image; choose one with at least one")
    bare = [name for name, mask in zip(labelled_ids, train.select(chosen)["mask"], strict=True) if mask is None]
    if bare:
        raise DataError(
            f"the split calls {bare[0]!r} labelled, but it has no mask; add the mask or drop it from the split"
        )
    rest = sorted(set(range(len(train))) - set(chosen))
    if not rest:
        raise DataError("the split leaves no unlabelled image; choose one that labels fewer")
    return train.select(chosen), train.select(rest)
