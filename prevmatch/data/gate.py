"""The gate before training: what cannot be learned, or not be validated, is refused here and not scored with 0 %."""

import datasets
import numpy as np

from prevmatch.data.lists import first_five
from prevmatch.data.sources import Source
from prevmatch.errors import DataError


def class_table(source: Source) -> list[str]:
    """A line for each class and one for ignored pixels; none where pixels are not counted."""
    if not source.pixels:
        return []
    names, ids, counts = source.class_names, list(source.pixels), np.stack(list(source.pixels.values()))
    total, there = counts.sum(0), (counts > 0).sum(0)
    shares = 100 * total[:-1] / max(1, total[:-1].sum())
    lines = [
        f"class {i:>3} {name:<20} {shares[i]:5.1f} % of the pixels, in {there[i]} of {len(counts)} masks"
        for i, name in enumerate(names)
    ]
    if total[-1]:
        ignored = 100 * counts[:, -1] / counts.sum(1).clip(min=1)
        lines.append(
            f"ignored {100 * total[-1] / total.sum():.1f} % of all pixels, at most {ignored.max():.1f} % of a mask "
            f"({ids[int(ignored.argmax())]!r})"
        )
    return lines


def require_trainable(source: Source, labelled: datasets.Dataset, *, absent_allowed: bool) -> None:
    """Raise DataError unless there is something to learn and something to validate on.

    Needed are a labelled and a validation mask with a pixel that counts, two classes with labelled pixels, and pixels
    of every class in some mask, unless `absent_allowed`. The pixels of `source` must be counted.
    """
    assert source.pixels is not None
    counts = {
        kind: np.stack([source.pixels[name][:-1] for name in rows["id"]])
        for kind, rows in (("labelled", labelled), ("validation", source.val))
        if kind == "labelled" or len(rows)  # the final model of folds validates on nothing
    }
    for kind, of_kind in counts.items():
        if not of_kind.any():
            raise DataError(
                f"no {kind} image has a pixel that counts: all {len(of_kind)} masks are ignored (255) throughout; "
                "correct them or the list of classes"
            )
    there = counts["labelled"].any(axis=0)
    if there.sum() < 2:
        raise DataError(
            f"all {len(labelled)} labelled masks hold a single class, {source.class_names[int(there.argmax())]!r}, "
            "and a single class cannot be learned; check what the values of the masks mean"
        )
    nowhere = ~np.any([pixels[:-1] for pixels in source.pixels.values()], axis=0)
    absent = [name for name, missing in zip(source.class_names, nowhere, strict=True) if missing]
    if absent and not absent_allowed:
        raise DataError(
            f"no mask has a pixel of {first_five(absent)} ({len(absent)} of {len(nowhere)} classes): the list of "
            "classes or the masks are read wrongly, or they are not labelled yet; correct the list, or add "
            "--allow_absent_classes"
        )
