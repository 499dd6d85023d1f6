"""Lists of names beside the photos that put them into parts: VOC's ImageSets, train.txt, splits.json."""

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np

from prevmatch.data.found import Found
from prevmatch.data.pairing import composed
from prevmatch.data.parts import role_of
from prevmatch.data.texts import read_json, read_text
from prevmatch.errors import DataError

SUFFIX = re.compile(r"\.\w+$")
PLACES = (
    ".", "ImageSets", "ImageSets/Segmentation", "ImageSets/Main", "splits", "split", "lists", "list", "partitions",
)  # fmt: skip

TITLES = ("image", "images", "id", "name", "file", "filename", "file_name", "image_id", "path")
"""What stands above a column of names."""


def follow(folder: Path, found: Found) -> Found:
    """The same images in the parts that lists in the folder put them into; the others stay where they are.

    A file is a list if its name says a part (test.txt), or as JSON has a key for each part. Of a list that names no
    image that is here, and of single lines that name none, a note tells. Raises DataError for an image that is in two.
    """
    names = [name for rows in found.parts.values() for name in rows["id"]]
    spelled = _by_spelling(names)
    part_of: dict[str, str] = {}
    notes: list[str] = []
    for path, part, lines in _lists(folder):
        known = {line: name for line in lines if (name := _meant(line, spelled))}
        if missing := [line for line in lines if line not in known]:
            few = f"{path.name} lists {missing[0]!r}, which is no image"
            more = f", and {len(missing) - 1} more such" * (len(missing) > 1)
            notes.append(f"{few}{more}" if known else f"{path.name} is not followed: it names no image that is here")
        for name in known.values():
            if role_of(part_of.setdefault(name, part)) != role_of(part):
                raise DataError(f"the lists put {name!r} into {part_of[name]} and {part}; keep one")
    if not part_of:
        return replace(found, notes=found.notes + notes)
    rows = datasets.concatenate_datasets(list(found.parts.values()))
    before = [part for part, rows in found.parts.items() for _ in range(len(rows))]
    parts = np.array([part_of.get(name, part) for name, part in zip(names, before, strict=True)])
    divided = {str(part): rows.select(np.flatnonzero(parts == part)) for part in dict.fromkeys(parts.tolist())}
    return replace(found, parts=divided, notes=found.notes + notes)


def _lists(folder: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """Each list: its file, its part, and what it names."""
    for place in PLACES:
        if place == "ImageSets/Main" and (folder / "ImageSets/Segmentation").is_dir():
            continue  # lists of photos for boxes, most of which have no masks
        for path in sorted((folder / place).glob("*.*")):
            kind = path.suffix.lower()
            if kind in (".txt", ".lst", ".csv") and role_of(path.stem):
                lines = [line.strip().strip("\"'") for line in read_text(path, what="list").splitlines()]
                if kind == ".csv" and any("," in line or ";" in line for line in lines):
                    continue  # a table, of which the columns say more
                yield path, path.stem, [line for line in lines if line and line.lower() not in TITLES]
            elif kind == ".json" and re.search("split|part|list", path.stem, re.IGNORECASE):
                yield from _in_json(path)


def _in_json(path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    try:
        content = read_json(path)
    except DataError:  # of something else
        return
    if isinstance(content, dict) and all(
        role_of(part) and isinstance(lines, list) and all(isinstance(line, str) for line in lines)
        for part, lines in content.items()
    ):
        yield from ((path, part, lines) for part, lines in content.items())


def _by_spelling(names: Collection[str]) -> dict[str, str | None]:
    """Names by all their ends (`b/c.jpg`, `c.jpg` of `a/b/c.jpg`), with and without suffix; None for several ones."""
    found: dict[str, str | None] = {}
    for name in names:
        for spelling in {spelling for end in _ends(name) for spelling in (end, SUFFIX.sub("", end))}:
            found[spelling] = name if found.setdefault(spelling, name) == name else None
    return found | {_plain(name): name for name in names}


def _meant(line: str, spelled: dict[str, str | None]) -> str | None:
    """The image that a line names: it or its first word, whole or an end of that path, with suffix or without."""
    for path in (line, line.split()[0]):
        for end in _ends(path):
            if name := spelled.get(end) or spelled.get(SUFFIX.sub("", end)):
                return name
    return None


def _ends(path: str) -> list[str]:
    words = _plain(path).strip("/").split("/")
    return ["/".join(words[i:]) for i in range(len(words))]


def _plain(name: str) -> str:
    return composed(name).casefold()
