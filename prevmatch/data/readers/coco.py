"""COCO JSON: one file, or one for each part; an image without annotations is unlabelled."""

import re
from collections import defaultdict
from pathlib import Path

from prevmatch.data.found import Found
from prevmatch.data.instances import read_annotations
from prevmatch.data.lists import first_five
from prevmatch.data.palettes import voc_colours
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.readers.folders import images_below
from prevmatch.data.sources import file_cell, table
from prevmatch.data.walking import walk
from prevmatch.errors import DataError


def read(folder: Path) -> Found | None:
    """Match the entries of the JSON files with the images below `folder`, by path, then by names that are unique."""
    files = sorted(
        [*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*/_annotations.coco.json")]
    )
    if not files:
        return None
    told = {path: _part_of(path) for path in files}
    if len(files) > 1 and ("" in told.values() or len(set(told.values())) < len(files)):
        raise DataError(
            f"{folder} has {len(files)} JSON files, {files[0].name} and {files[1].name} for two; keep one, or name "
            "each for its part (instances_train.json, instances_val.json)"
        )
    walked = walk(images_below(folder) or folder)
    paths = {path.relative_to(folder).as_posix(): path for path in walked.files}
    cells, parts, notes = {}, defaultdict(list), walked.notes()
    names: tuple[str, ...] = ()
    for file, part in told.items():
        read = read_annotations(file)
        if names and read.names != names:
            raise DataError(f"{file} has other categories than {files[0]}; export them together")
        names, notes = read.names, notes + read.notes
        missing = []
        for entry, cell in read.cells.items():
            path = _match(entry, file.parent.relative_to(folder).as_posix(), paths)
            if path is None:
                missing.append(entry)
            elif path in cells:
                raise DataError(
                    f"{file} has two entries for the image {path}; keep one, or tell them apart by folders"
                )
            else:
                cells[path] = cell
                parts[part or part_in(path)].append(path)
        if len(missing) == len(read.cells):
            raise DataError(
                f"no image bears a file_name of {file}: {missing[0]!r} for one, while images are called like "
                f"{next(iter(paths), 'none at all')}; put them where the file says"
            )
        if missing:
            notes.append(f"{len(missing)} images of {file.name} are missing: {first_five(missing)}")
    for path in paths:
        if path not in cells:
            parts[part_in(path)].append(path)
    images = images_below(folder) or folder
    return Found(
        parts={
            part: table(
                [paths[path].relative_to(images).with_suffix("").as_posix() for path in sorted(found)],
                [file_cell(paths[path]) for path in sorted(found)],
                [cells.get(path) for path in sorted(found)],
            )
            for part, found in parts.items()
        },
        class_names=names,
        palette=voc_colours(len(names)),
        annotated=True,
        layout=f"COCO JSON {', '.join(path.name for path in files)}; an image without annotations is unlabelled",
        notes=notes,
    )


def _part_of(file: Path) -> str:
    """The part that the name of an annotation file, or of its folder, says it is for."""
    return next((word for word in (*re.split(r"[\W_]+", file.stem), file.parent.name) if role_of(word)), "")


def _match(entry: str, beside: str, paths: dict[str, Path]) -> str | None:
    """The image that a `file_name` means, written on any system: its longest end that is a path, or a unique name."""
    words = [word for word in entry.replace("\\", "/").split("/") if word not in ("", ".")]
    tails = ["/".join(words[i:]) for i in range(len(words))]
    for tail in tails:
        for root in (f"{beside}/", "", "images/", "JPEGImages/"):
            if root + tail in paths:
                return root + tail
    alike = [path for path in paths if _plain(path) == _plain(words[-1])] if words else []
    return alike[0] if len(alike) == 1 else None


def _plain(path: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", path.rpartition("/")[2]).casefold()
