"""Masks where a user's own pattern says."""

import re
from pathlib import Path

from prevmatch.data.found import Found, in_parts
from prevmatch.data.readers.folders import classes_beside
from prevmatch.data.sources import file_cell
from prevmatch.data.walking import walk
from prevmatch.errors import ConfigError, DataError


def read(folder: Path, pattern: str) -> Found:
    """Pair each photo below `folder` with the file that `pattern` names; files so named are no photos themselves.

    Raises ConfigError for a pattern that names nothing, DataError for two photos with one mask.
    """
    walked = walk(folder)
    places = {}
    try:
        for path in walked.files:
            below = path.relative_to(folder)
            places[path] = folder / pattern.format(folder=below.parent.as_posix(), stem=path.stem, name=path.name)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"mask_path is {pattern!r} but may hold {{folder}}, {{stem}} and {{name}} only") from error
    if not re.search(r"\{(stem|name)\}", pattern):
        raise ConfigError(f"mask_path is {pattern!r} but must hold {{stem}} or {{name}}")
    there = {path.resolve() for path in walked.files}
    masks = {path: place for path, place in places.items() if place.resolve() in there and place != path}
    owners: dict[Path, Path] = {}
    for path, place in masks.items():
        if (other := owners.setdefault(place.resolve(), path)) != path:
            raise DataError(f"{place} would be the mask of {other} and of {path}; add {{folder}} to mask_path")
    if not masks:
        example = next(iter(places.values()), folder)
        raise ConfigError(f"mask_path finds no mask: {example} is not there, for one")
    images = {path.relative_to(folder).as_posix(): path for path in walked.files if path.resolve() not in owners}
    return Found(
        parts=in_parts(images, {name: file_cell(masks[path]) for name, path in images.items() if path in masks}),
        notes=walked.notes(),
        **classes_beside(folder, f"masks at {pattern}"),
    )
