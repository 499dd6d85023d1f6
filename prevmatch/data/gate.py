"""The gate before training: what cannot be learned, or not be validated, is refused here and not scored with 0 %."""

import numpy as np

from prevmatch.errors import DataError


def class_table(names: tuple[str, ...], counts: np.ndarray, ids: list[str]) -> list[str]:
    """A line for each class and one for ignored pixels, from counts int64 (N, C + 1) of masks with those ids."""
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


def require_trainable(names: tuple[str, ...], train: np.ndarray, val: np.ndarray, *, absent_allowed: bool) -> None:
    """Raise DataError unless there is something to learn and something to validate on.

    train, val: pixels of each class in each mask, int64 (N, C + 1), the last column ignored ones. Needed are a
    labelled and a validation mask with a counted pixel, two classes with pixels, and pixels of every class of the
    list, unless `absent_allowed`.
    """
    for kind, counts in (("labelled", train), ("validation", val)):
        if not counts[:, :-1].any():
            raise DataError(
                f"no {kind} image has a pixel that counts: all {len(counts)} masks are ignored (255) throughout; "
                "correct them or the list of classes"
            )
    there = (train[:, :-1].sum(0) + val[:, :-1].sum(0)) > 0
    if there.sum() < 2:
        raise DataError(
            f"all {len(train) + len(val)} masks hold a single class, {names[int(there.argmax())]!r}, and a single "
            "class cannot be learned; check what the values of the masks mean"
        )
    absent = [name for name, found in zip(names, there, strict=True) if not found]
    if absent and not absent_allowed:
        raise DataError(
            f"no mask has a pixel of {', '.join(map(repr, absent[:5]))}{', …' * (len(absent) > 5)} "
            f"({len(absent)} of {len(names)} classes): the list of classes or the masks are read wrongly, or they are "
            "not labelled yet; correct the list, or add --allow_absent_classes"
        )
