"""The gate before training: nothing to learn, or nothing to validate on, is refused."""

import numpy as np
import pytest

from prevmatch.data.gate import require_trainable
from prevmatch.data.sources import Source, table
from prevmatch.errors import DataError


def source_of(labelled, val):
    """A source of masks with these pixels per class, the last column ignored ones; and its labelled rows."""
    parts = {}
    for kind, counts in (("t", labelled), ("v", val)):
        cell = {"path": "x.png", "bytes": None}
        parts[kind] = table([f"{kind}{i}" for i in range(len(counts))], [cell] * len(counts), [cell] * len(counts))
    both = (("t", labelled), ("v", val))
    pixels = {f"{kind}{i}": np.array(row) for kind, rows in both for i, row in enumerate(rows)}
    names = tuple("abc"[: len(labelled[0]) - 1])
    source = Source(
        train=parts["t"], val=parts["v"], class_names=names, palette=((0, 0, 0),) * len(names), pixels=pixels
    )
    return source, parts["t"]


@pytest.mark.parametrize(
    ("labelled", "val", "message"),
    [
        ([[0, 0, 0, 9], [0, 0, 0, 9]], [[3, 3, 3, 0]], "no labelled image has a pixel that counts: all 2 masks"),
        ([[3, 3, 3, 0]], [[0, 0, 0, 9]], "no validation image has a pixel that counts"),
        ([[9, 0, 0, 0], [9, 0, 0, 1]], [[3, 3, 3, 0]], "all 2 labelled masks hold a single class, 'a'"),
        ([[3, 3, 0, 0]], [[3, 3, 0, 0]], r"no mask has a pixel of 'c' \(1 of 3 classes\).*--allow_absent_classes"),
    ],
)
def test_what_cannot_be_learned_or_validated_is_refused(labelled, val, message):
    with pytest.raises(DataError, match=message):
        require_trainable(*source_of(labelled, val), absent_allowed=False)


def test_what_can_be_learned_passes():
    require_trainable(*source_of([[3, 3, 0, 0]], [[0, 0, 3, 0]]), absent_allowed=False)
    require_trainable(*source_of([[3, 3, 0, 0]], [[3, 0, 0, 0]]), absent_allowed=True)
