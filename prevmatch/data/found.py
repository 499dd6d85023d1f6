"""What a reader finds in a folder; all readers end in the same rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import datasets

from prevmatch.data.parts import part_in
from prevmatch.data.sources import RGB, file_cell, table


@dataclass(kw_only=True)
class Found:
    """Images and masks in parts, and what the folder says about classes; empty names mean that the masks must tell."""

    parts: dict[str, datasets.Dataset]
    """Rows by the name of their part (train, valid, test); "" where there are no parts. Without a mask: unlabelled."""
    class_names: tuple[str, ...] = ()
    class_ids: tuple[int, ...] = ()
    """The value of each named class in the masks; empty where these are 0, 1, 2, …"""
    palette: tuple[RGB, ...] = ()
    colours: tuple[tuple[RGB, int], ...] = ()
    annotated: bool = False
    """Whether masks are annotations, which hold class ids by themselves."""
    tagged: bool = False
    """Whether `class_names` are those of a column `classes`, which may be something else."""
    layout: str = ""
    notes: list[str] = field(default_factory=list)
    """What a user should know about how the data was read."""


def in_parts(
    images: Mapping[str, Path | dict], masks: Mapping[str, dict | None], part: Callable[[str], str] = part_in
) -> dict[str, datasets.Dataset]:
    """Rows by part, from images (files, or cells) and mask cells by their ids, which are their paths."""
    groups: dict[str, list[str]] = {}
    for name in images:
        groups.setdefault(part(name), []).append(name)
    return {
        group: table(
            names,
            [cell if isinstance(cell := images[name], dict) else file_cell(cell) for name in names],
            [masks.get(name) for name in names],
        )
        for group, names in groups.items()
    }


def named(folder: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Image files by their paths below `folder`, without suffix where that tells them apart."""
    files = list(files)
    bare = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
    twice = {name for name, count in Counter(bare).items() if count > 1}
    return {
        path.relative_to(folder).as_posix() if name in twice else name: path
        for name, path in zip(bare, files, strict=True)
    }
