"""One page that shows data before it is trained on: photos under their masks, a legend, and what was found."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prevmatch.data.reading import read_image, read_pair
from prevmatch.data.sources import TrainingData
from prevmatch.share.pages import inline, render
from prevmatch.share.pictures import painted
from prevmatch.writing import write_text

LONG_SIDE = 480


@dataclass(frozen=True)
class ClassRow:
    """A class in the legend."""

    name: str
    colour: str
    share: float
    """Of the pixels that count, in %."""
    masks: dict[str, int]
    """How many masks of each part have it."""


def class_rows(data: TrainingData) -> tuple[list[ClassRow], float]:
    """The classes with their shares, and the share of ignored pixels in %."""
    source, pixels = data.source, data.source.pixels or {}
    parts = {"labelled": data.labelled["id"][:], "validation": data.val["id"][:]}
    counts = {part: np.stack([pixels[name] for name in names]) for part, names in parts.items()}
    total = sum(rows.sum(0) for rows in counts.values())
    counted = max(1, int(total[:-1].sum()))
    rows = [
        ClassRow(
            name=name,
            colour="#" + bytes(source.palette[i]).hex(),
            share=100 * int(total[i]) / counted,
            masks={part: int((of_part[:, i] > 0).sum()) for part, of_part in counts.items()},
        )
        for i, name in enumerate(source.class_names)
    ]
    return rows, 100 * int(total[-1]) / max(1, int(total.sum()))


def write_page(
    path: Path,
    data: TrainingData,
    *,
    title: str,
    facts: Mapping[str, str],
    plan: Mapping[str, Mapping[str, Any]],
    most: int = 12,
) -> None:
    """Write the page, which needs no other file; `most` photos of each kind are shown."""
    rows, ignored = class_rows(data)
    groups = [
        ("Validation", "held out; the score is measured on these", _pictures(data, "val", most)),
        ("Labelled", "learned from with their masks", _pictures(data, "labelled", most)),
        ("Unlabelled", "learned from without masks", _pictures(data, "unlabelled", most)),
    ]
    notes = data.source.notes
    page = render(
        "check.html", title=title, facts=facts, notes=notes, classes=rows, ignored=ignored, plan=plan, groups=groups
    )
    write_text(path, page)


def _pictures(data: TrainingData, part: str, most: int) -> list[tuple[str, str]]:
    """Ids and pictures, evenly spaced through a part."""
    rows = getattr(data, part)
    places: Sequence[int] = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)).tolist()
    shown = []
    for row in (rows[place] for place in places):
        if part == "unlabelled":
            picture = read_image(row, bits=data.source.bits)
        else:
            image, mask = read_pair(row, data.source)
            picture = painted(image, np.asarray(mask), data.source.palette)
        picture.thumbnail((LONG_SIDE, LONG_SIDE))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=82)
        shown.append((row["id"], inline(file.getvalue(), "jpeg")))
    return shown
