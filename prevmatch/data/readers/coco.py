"""COCO JSON: one file, or one for each part; an image without annotations is unlabelled."""

import re
import unicodedata
from collections import Counter, defaultdict
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
    composed = {unicodedata.normalize("NFC", path): path for path in paths}
    cells, parts, notes = {}, defaultdict(list), walked.notes()
    names: tuple[str, ...] = ()
    for file, part in told.items():
        read = read_annotations(file)
        if names and read.names != names:
            raise DataError(f"{file} has other categories than {files[0]}; export them together")
        names, notes = read.names, notes + read.notes
        missing, shared = [], Counter(end for entry in read.cells for end in _ends(entry))
        for entry, cell in read.cells.items():
            path = _match(entry, file.parent.relative_to(folder).as_posix(), composed, shared)
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


def _ends(entry: str) -> list[str]:
    """A `file_name` written on any system, and its ends, the longest first."""
    composed = unicodedata.normalize("NFC", entry).replace("\\", "/")
    words = [word for word in composed.split("/") if word not in ("", ".")]
    return ["/".join(words[i:]) for i in range(len(words))]


def _match(entry: str, beside: str, paths: dict[str, str], shared: Counter[str]) -> str | None:
    """The image that a `file_name` means: the path, or its longest end that is one and that no other entry shares.

    Else an image somewhere that alone has its name.
    """
    for i, end in enumerate(_ends(entry)):
        for root in (f"{beside}/", "", "images/", "JPEGImages/"):
            if (i == 0 or shared[end] == 1) and root + end in paths:
                return paths[root + end]
    name = _ends(entry)[-1] if _ends(entry) else ""
    same = [path for key, path in paths.items() if key.rpartition("/")[2].casefold() == name.casefold()]
    return same[0] if shared[name] == len(same) == 1 else None
