"""COCO JSON: one file, or one for each part; an image without annotations is unlabelled."""

import re
import unicodedata
from collections import Counter
from pathlib import Path

from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.instances import read_annotations
from prevmatch.data.lists import first_five
from prevmatch.data.pairing import before_upload
from prevmatch.data.palettes import voc_colours
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.readers.folders import images_below
from prevmatch.data.texts import read_json
from prevmatch.data.walking import walk
from prevmatch.errors import DataError


def read(folder: Path) -> Found | None:
    """Match the entries of the JSON files with the images below `folder`, by path, then by names that are unique."""
    patterns = ("*.json", "annotations/*.json", "*/_annotations.coco.json", "*/labels.json")
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if _is_coco(path)})
    if not files:
        return None
    told = {path: _part_of(path) for path in files}
    rivals = [file for file in files if told[file] == "" or list(told.values()).count(told[file]) > 1]
    if len(files) > 1 and rivals:
        two = " and ".join(file.name for file in sorted(files, key=lambda file: (file not in rivals, told[file]))[:2])
        raise DataError(
            f"{folder} has {len(files)} COCO files, {two} for two; keep one, or name each for its part "
            "(instances_train.json, instances_val.json)"
        )
    read = {file: read_annotations(file, stuff=True) for file in files}
    root = images_below(folder) or folder
    pictures = {folder_of for file in files if (folder_of := file.with_suffix("")).is_dir()}  # of panoptic files
    walked = walk(root, without={path.resolve() for path in pictures})
    paths = {path.relative_to(folder).as_posix(): path for path in walked.files}
    composed = {unicodedata.normalize("NFC", path): path for path in paths}
    notes, names = walked.notes(), read[files[0]].names
    cells: dict[str, dict | None] = {}
    part_of: dict[str, str] = {}
    for file, content in read.items():
        if content.names != names:
            raise DataError(f"{file} has other categories than {files[0]}; export them together")
        notes += content.notes
        missing, shared = [], Counter(end for entry in content.cells for end in {*_ends(entry), _uploaded(entry)})
        for entry, cell in content.cells.items():
            path = _match(entry, file.parent.relative_to(folder).as_posix(), composed, shared)
            if path is None:
                missing.append(entry)
                continue
            if path in cells:
                raise DataError(
                    f"{file} has two entries for the image {path}; keep one, or tell them apart by folders"
                )
            cells[path], part_of[path] = cell, told[file]
        if missing and len(missing) == len(content.cells):
            raise DataError(
                f"no image bears a file_name of {file}: {missing[0]!r} for one, while images are called like "
                f"{next(iter(paths), 'none at all')}; put them where the file says"
            )
        if missing:
            notes.append(f"{len(missing)} images of {file.name} are missing: {first_five(missing)}")
    images = named(root, walked.files)
    path_of = {name: path.relative_to(folder).as_posix() for name, path in images.items()}
    return Found(
        parts=in_parts(
            images,
            {name: cells.get(path) for name, path in path_of.items()},
            lambda name: part_of.get(path_of[name]) or part_in(path_of[name]),
        ),
        class_names=names,
        palette=voc_colours(len(names)),
        annotated=True,
        layout=f"COCO JSON {', '.join(path.name for path in files)}; an image without annotations is unlabelled",
        notes=notes,
    )


def _is_coco(path: Path) -> bool:
    if path.name.startswith(("person_keypoints", "captions", "image_info", ".")):
        return False
    content = read_json(path, what="annotation file")
    return isinstance(content, dict) and "images" in content and bool({"annotations", "categories"} & content.keys())


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

    Else an image somewhere that alone has its name, or had it before it was uploaded.
    """
    for i, end in enumerate(_ends(entry)):
        for root in (f"{beside}/", "", "images/", "JPEGImages/"):
            if (i == 0 or shared[end] == 1) and root + end in paths:
                return paths[root + end]
    name = _ends(entry)[-1] if _ends(entry) else ""
    same = [path for key, path in paths.items() if key.rpartition("/")[2].casefold() == name.casefold()]
    if not same:
        name = _uploaded(entry)
        same = [path for key, path in paths.items() if key.rpartition("/")[2].casefold() == name]
    return same[0] if shared[name] == len(same) == 1 else None


def _uploaded(entry: str) -> str:
    return before_upload(_ends(entry)[-1]) if _ends(entry) else ""
