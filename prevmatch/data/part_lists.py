"""Lists of names beside the photos that put them into parts: ImageSets, train.txt, splits.json, a column `split`."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from prevmatch.data.found import Found
from prevmatch.data.pairing import bare, composed, unpadded
from prevmatch.data.parts import ROLES, role_of
from prevmatch.data.photos import SAYING_NOTHING
from prevmatch.data.readers.folders import MASKS
from prevmatch.data.texts import CLASS_LISTS, columns_titled, read_rows, read_text
from prevmatch.data.walking import IMAGE_SUFFIXES, is_no_data
from prevmatch.errors import DataError

PLACES = re.compile(
    r"image_?sets|segmentation|main|(\w*_)?(splits?|folds?)|lists?|partitions?|annotations?|images?|jpegimages|masks?|"
    r"labels?|meta(data)?",
    re.IGNORECASE,
)
"""Folders in which people keep lists."""
DIVIDING = re.compile("split|part|list|fold|dataset", re.IGNORECASE)
"""What the name of a file says that lists several parts."""
TITLES = (
    "image", "images", "img", "photo", "filename", "file_name", "file", "image_path", "img_path", "image_file",
    "image_name", "image_filename", "image_filepath", "path", "image_id", "id", "name",
)  # fmt: skip
"""What stands above a column of names."""
PARTS = ("split", "subset", "part", "set", "partition", "usage", "fold", "dataset_split", "data_split")
"""What a column is called that says which part a photo is in."""
ENDS = re.compile(r"(.+)[\W_](train|val|valid|validation|test)", re.IGNORECASE)
MARKS = {"is_test": "test", "is_val": "val", "is_valid": "val", "is_validation": "val"}
"""Columns that say of each photo whether it is in one."""
LARGEST = 20_000_000
"""Bytes of a list; a larger file is something else."""

Listed = Iterator[tuple[str, list[str]]]
"""Parts, and what is in each."""


def follow(folder: Path, found: Found, *above: Path) -> Found:
    """The same images in the parts that lists in the folder, or in those `above` it, put them into; the others stay
    where they are.

    A file is a list if its name says a part (test.txt), if it has a column for them, or as JSON or YAML a key for
    each; where no list names any photo, names that all begin with a part (test_1.jpg, train_1.jpg) say theirs.
    Of a list that names no image that is here, and of single lines that name none, a note tells. Raises DataError for
    an image that is in two.
    """
    names = [name for rows in found.parts.values() for name in rows["id"]]
    spelled = by_spelling(names)
    part_of: dict[str, str] = {}
    notes: list[str] = []
    for path in (path for place in (folder, *above) for path in files_of_lists(place, spelled)):
        try:
            listed = [*_lists(path)]
        except DataError as error:
            notes.append(f"{path.name} is not followed: {error}")
            continue
        if not listed and re.search("split|fold|partition", path.stem, re.IGNORECASE):
            notes.append(f"{path.name} is not followed: it names no parts for images in a form that is known here")
        for part, lines in listed:
            known = {line: name for line in lines if (name := meant(line, spelled))}
            sure = role_of(part, begins=False) is not None
            if known and not sure and (len(known) < len(lines) or len(known) == len(names)):
                known = {}  # called `test_results` or the like, and of other things
            if missing := [line for line in lines if line not in known]:
                few = f"{path.name} lists {missing[0]!r}, which is no image"
                more = f", and {len(missing) - 1} more such" * (len(missing) > 1)
                notes.append(
                    f"{few}{more}" if known else f"{path.name} is not followed: it names no image that is here"
                )
            for name in known.values():
                if role_of(part_of.setdefault(name, part)) != role_of(part):
                    raise DataError(f"the lists put {name!r} into {part_of[name]} and {part}; keep one")
    notes = list(dict.fromkeys(notes)) + _folds(folder)
    if not part_of and set(found.parts) == {""}:
        part_of = _by_beginning(names) or _by_folders(names)
    if not part_of:
        return replace(found, notes=found.notes + notes)
    rows = datasets.concatenate_datasets(list(found.parts.values()))
    before = [part for part, rows in found.parts.items() for _ in range(len(rows))]
    parts = np.array([part_of.get(name, part) for name, part in zip(names, before, strict=True)])
    divided = {str(part): rows.select(np.flatnonzero(parts == part)) for part in dict.fromkeys(parts.tolist())}
    return replace(found, parts=divided, notes=found.notes + notes)


def files_of_lists(folder: Path, photos: Collection[str]) -> Iterator[Path]:
    """The files that may be lists, in a folder and in those inside it that are called as if they held lists."""
    inner = [path for path in _inside(folder) if path.is_dir() and PLACES.fullmatch(path.name)]
    inner += [path for place in inner for path in _inside(place) if path.is_dir() and PLACES.fullmatch(path.name)]
    for place in (folder, *inner):
        if place.name.lower() == "main" and any(path.name.lower() == "segmentation" for path in _inside(place.parent)):
            continue  # lists of photos for boxes, most of which have no masks
        for path in _inside(place):
            kinds = (".txt", ".lst", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", "")
            if (
                path.suffix.lower() in kinds
                and (path.stem.casefold() not in photos or path.stem.lower() in ROLES)  # not the annotation of one
                and path.is_file()
                and path.stat().st_size <= LARGEST
            ):
                yield path


def _folds(folder: Path) -> list[str]:
    """What to tell of folders with lists of their own, as one for each fold: which of them count is not known."""
    places = [path for path in _inside(folder) if path.is_dir() and PLACES.fullmatch(path.name)]
    return [
        f"{path.relative_to(folder)}/ has lists that are not followed; put those that count into {place.name}/"
        for place in places for path in _inside(place)
        if path.is_dir() and not PLACES.fullmatch(path.name)
        and any(role_of(file.stem) and file.suffix in (".txt", ".csv", ".lst") for file in path.iterdir())
    ]  # fmt: skip


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_no_data(path.name))


def _lists(path: Path) -> Listed:
    """The parts that a file lists, with the lines of each."""
    match path.suffix.lower():
        case ".json" | ".yaml" | ".yml":
            if DIVIDING.search(path.stem) and path.name.lower() not in CLASS_LISTS:
                yield from _of_value(_parsed(path))
            elif (part := _part_of(path)) and isinstance(content := _parsed(path), list):
                yield from _of_value({part: content})
        case ".jsonl":
            yield from _of_value([_loaded(line) for line in read_text(path, what="list").splitlines()])
        case ".csv" | ".tsv":
            yield from _of_table(path)
        case _ if _part_of(path):
            lines = read_text(path, what="list").splitlines()
            lines = [line.strip(" \t\"'[],;") for line in (lines if len(lines) > 1 else "".join(lines).split(","))]
            yield _part_of(path), [line for line in lines if line and line.lower() not in TITLES]
        case ".txt" if DIVIDING.search(path.stem):
            pairs = [line.rsplit(maxsplit=1) for line in read_text(path, what="list").splitlines() if line.strip()]
            if pairs and all(len(pair) == 2 and role_of(pair[1]) for pair in pairs):
                yield from _grouped(pairs)


def _part_of(path: Path) -> str:
    """The part that the name of a list says; also as its end (town_test.txt) beside such of another part, and no other
    kind of them: VOC has a list for each class."""
    if role_of(path.stem):
        return path.stem
    ends = [(other, ENDS.fullmatch(other.stem)) for other in _inside(path.parent) if other.suffix == path.suffix]
    ended = {other: end for other, end in ends if end}
    if path not in ended or len({end[1] for end in ended.values()}) > 1 or len(ended) < 2:
        return ""
    return ended[path][2]


def _of_table(path: Path) -> Listed:
    titles = columns_titled(path, (TITLES,))
    told = columns_titled(path, (PARTS,))
    marks = [(columns_titled(path, ((title,),)), part) for title, part in MARKS.items()]
    marked = [(found[0], part) for found, part in marks if found]
    if not (_part_of(path) or (titles and (told or marked))):
        return
    rows = read_rows(path, what="list")[bool(titles or told) :]
    first = titles[0] if titles else _column_of_names(rows)
    if first is None:
        return
    named = [row for row in rows if first < len(row) and row[first] and row[first].lower() not in TITLES]

    def part_of(row: Sequence[str]) -> str:
        said = row[told[0]] if told and told[0] < len(row) else ""
        mark = next((part for i, part in marked if i < len(row) and row[i].lower() in ("1", "1.0", "true", "yes")), "")
        return next((part for part in (said, mark, _part_of(path)) if role_of(part)), "")

    yield from _grouped([(row[first], part) for row in named if (part := part_of(row))])


def _column_of_names(rows: Sequence[Sequence[str]]) -> int | None:
    """The first column of a table without titles that holds names of image files, or its only one."""
    first = rows[0] if rows else ()
    named = (i for i, cell in enumerate(first) if cell.lower().endswith(IMAGE_SUFFIXES))
    return next(named, 0 if len(first) == 1 else None)


def _grouped(pairs: Sequence[Sequence[str]]) -> Listed:
    for part in dict.fromkeys(part for _, part in pairs):
        yield part, [name for name, of in pairs if of == part]


def _parsed(path: Path) -> Any:
    """The content of a JSON or YAML file, or None if it is neither."""
    import yaml

    try:
        text = read_text(path)
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (DataError, ValueError, RecursionError, yaml.YAMLError):  # of something else
        return None


def _loaded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _of_value(content: Any) -> Listed:
    """The parts in a dict: part → names, or name → part; or in a list of dicts with both; other things are left
    alone."""
    if isinstance(content, list):
        said = [
            [next((e[t] for t in titles if t in e), "") for titles in (TITLES, PARTS)]
            for e in content
            if isinstance(e, dict)
        ]
        yield from _grouped([(str(name), str(part)) for name, part in said if name and role_of(str(part))])
    if not isinstance(content, dict):
        return
    if content and all(isinstance(part, str) and role_of(part) for part in content.values()):
        yield from _grouped([(str(name), part) for name, part in content.items()])
    for part, lines in content.items():
        if role_of(str(part)) and isinstance(lines, dict):  # {"test": {"images": […]}}
            lines = next((lines[title] for title in TITLES if isinstance(lines.get(title), list)), None)
        if role_of(str(part)) and isinstance(lines, list):
            names = [
                next((line[title] for title in TITLES if title in line), None) if isinstance(line, dict) else line
                for line in lines
            ]
            yield str(part), [str(name) for name in names if isinstance(name, str | int)]
        elif re.fullmatch("splits?", str(part), re.IGNORECASE):
            yield from _of_value(lines)


def _by_beginning(names: Sequence[str]) -> dict[str, str]:
    """The parts that all names begin with (testA_1, train_1), one of them for training; nothing if some do not."""
    part_of = {name: re.split(r"[\W_]+", name.rpartition("/")[2])[0] for name in names}
    roles = {role_of(part) for part in part_of.values()}
    return part_of if None not in roles and "train" in roles and len(roles) > 1 else {}


def _by_folders(names: Sequence[str]) -> dict[str, str]:
    """The parts that folders end with which are alike before that (farm_train/, farm_test/), one for training."""
    ends = {name: next(filter(None, map(ENDS.fullmatch, name.split("/")[:-1])), None) for name in names}
    said = {name: end[2] for name, end in ends.items() if end}
    alike = len({end[1] for end in ends.values() if end}) == 1
    return said if alike and len(set(said.values())) > 1 and "train" in map(role_of, said.values()) else {}


def by_spelling(names: Collection[str]) -> dict[str, str | None]:
    """Names by all their ends (`b/c.jpg`, `c.jpg` of `a/b/c.jpg`), with and without suffix; None for several ones."""
    found: dict[str, str | None] = {}
    for name in names:
        for spelling in {spelling for end in _ends(name) for spelling in (end, _bare(end))}:
            found[spelling] = name if found.setdefault(spelling, name) == name else None
    found |= {_plain(name): name for name in names}
    loose: dict[str, str | None] = {}
    for name in names:
        for rule in (bare, unpadded):
            spelling = rule(_bare(_plain(name)))
            loose[spelling] = name if loose.setdefault(spelling, name) == name else None
    return loose | found


def meant(line: str, spelled: dict[str, str | None]) -> str | None:
    """The image that a line names: it or one of its words, one with an image's suffix first, else the first one;
    whole or an end of that path, with suffix or without, or without what tools add to names."""
    words = line.split()
    named = [word for word in words if word.lower().endswith(IMAGE_SUFFIXES)]
    told = words[:1] if all(_is_number(word) or "/" in word for word in words[1:]) else []  # else it is a sentence
    for path in (line, *named, *told):
        for end in _ends(path):
            spellings = (end, _bare(end), bare(_bare(end)), unpadded(_bare(end)))
            name = next((name for spelling in spellings if (name := spelled.get(spelling))), None)
            if name and _may_be(path, name):
                return name
    return None


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", word) is not None


def _may_be(path: str, name: str) -> bool:
    """Whether the folders that a path and the name of an image are in let them be the same."""
    folders = [
        [word for word in _plain(each).split("/")[:-1] if word not in (*SAYING_NOTHING, *MASKS)]
        for each in (path, name)
    ]
    return not all(folders) or folders[0][-1] == folders[1][-1]


def _ends(path: str) -> list[str]:
    words = _plain(path).strip("/").split("/")
    return ["/".join(words[i:]) for i in range(len(words))]


def _bare(end: str) -> str:
    """Without the suffix of a file, which is no number: `a.2` is a name."""
    return re.sub(r"\.(?!\d+$)\w+$", "", end)


def _plain(name: str) -> str:
    return composed(name).casefold()
