"""Photos and masks that a table pairs: a CSV, TSV or JSON Lines with a column for each, or a text of pairs."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.pairing import bare
from prevmatch.data.part_lists import PARTS
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.readers.folders import MASKS, UNLABELLED, classes_beside
from prevmatch.data.sources import file_cell
from prevmatch.data.texts import columns_titled, read_rows, read_text
from prevmatch.data.walking import IMAGE_SUFFIXES, is_no_data, walk
from prevmatch.errors import DataError

TITLES = (
    (
        "image", "images", "img", "photo", "image_path", "img_path", "image_file", "image_name", "image_filename",
        "image_filepath", "image_filenames", "filename", "file_name", "path",
    ),
    (
        "mask", "masks", "mask_path", "mask_file", "mask_name", "mask_filename", "mask_filepath", "mask_file_name",
        "label_file_name", "segmentation_file_name", "label_path", "annotation_path",
        "label", "annotation", "segmentation", "target",
    ),
)  # fmt: skip
"""What the columns of photos and masks are called; the last ones may be words about the photo and count last."""
WORDS = TITLES[1][-4:]
OF_MASKS = re.compile("mask|label|seg|ann|gt|truth|target", re.IGNORECASE)
"""What folders of masks are called like."""


def read(folder: Path) -> Found | None:
    """Pair as the tables say; a photo beside listed ones is unlabelled, unless masks lie there too.

    A table without any mask that is there pairs something else. Raises DataError for a listed file that is missing, or
    is both, and for a photo with two masks or in two parts.
    """
    if not (titled := _titled(folder)):
        return None
    walked = walk(folder)
    there = set(walked.files)
    tables = {table: rows for table, cells in titled.items() if (rows := _found(table, cells, walked.files))}
    if not tables:
        return None
    mask_of: dict[Path, Path | None] = {}
    listed: dict[Path, str] = {}
    for table, rows in tables.items():
        for image, mask, part in rows:
            if missing := {image, mask or image} - there:
                raise DataError(f"{table} lists {missing.pop()}, which is no image there; correct the line")
            if mask_of.setdefault(image, mask) != mask:
                raise DataError(f"{table} gives {image} a second mask; keep one")
            if role_of(listed.setdefault(image, part)) != role_of(part):
                raise DataError(f"{table} puts {image} into {part or 'no part'}, another line elsewhere; keep one")
    masks = {mask for mask in mask_of.values() if mask}
    if both := sorted(masks & mask_of.keys()):
        raise DataError(f"{', '.join(map(str, tables))} lists {both[0]} as a photo and as a mask; correct the lines")
    beside = {image.parent for image in mask_of} - {mask.parent for mask in masks}
    images = named(folder, [
        path for path in walked.files
        if path in mask_of or path.parent in beside or (UNLABELLED.fullmatch(path.parent.name) and path not in masks)
    ])  # fmt: skip
    unused = len(walked.files) - len(images) - len(masks)
    told = [f"{unused} images are neither listed nor beside listed photos and are not used"] * bool(unused)
    return Found(
        parts=in_parts(
            images,
            {name: file_cell(mask) for name, path in images.items() if (mask := mask_of.get(path))},
            lambda name: listed.get(images[name]) or part_in(name),
        ),
        notes=walked.notes() + told,
        **classes_beside(folder, f"pairs of {', '.join(table.name for table in tables)}"),
    )


def passed_over(folder: Path) -> list[str]:
    """A line for each table that names masks, where the folder was read in another way."""
    return [
        f"{table.name} pairs photos and masks but none of these masks is there; pairing is by name instead"
        for table, cells in _titled(folder).items()
        if any(mask.lower().endswith(IMAGE_SUFFIXES) for _, mask, _ in cells)
    ]


def _titled(folder: Path) -> dict[Path, list[tuple[str, str, str]]]:
    """Photo, mask and part in each line of the tables that have columns for the first two, and of lists of pairs.

    The part is what a column for it says, or else the name of the table or of its folder; "" where none is a part.
    """
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_no_data(path.name)]
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    tables = files + [path for place in inside for path in sorted(place.glob("metadata.*")) if path.is_file()]
    tables = [path for path in tables if path.suffix.lower() in (".csv", ".tsv", ".jsonl")]
    found = {table: lines for table in tables if (lines := [*_lines(table)])}
    found |= {path: pairs for path in files if path.suffix.lower() == ".txt" and (pairs := _pairs(path))}
    found = {table: [[cell.replace("\\", "/") for cell in line] for line in lines] for table, lines in found.items()}
    named = {table: (table.stem, *table.parent.relative_to(folder).parts) for table in found}
    return {
        table: [
            (image, mask, next((name for name in (*part, *named[table]) if role_of(name)), ""))
            for image, mask, *part in lines if image
        ]
        for table, lines in found.items()
    }  # fmt: skip


def _lines(table: Path) -> Iterator[list[str]]:
    """Photo, mask and, where it is told, part in each line of a table; nothing where one of the first two is not."""
    if table.suffix.lower() == ".jsonl":
        for line in read_text(table, what="table").splitlines():
            try:
                entry = json.loads(line or "{}")
            except ValueError:
                return
            said = entry if isinstance(entry, dict) else {}
            titles = [next((title for title in kinds if title in said), "") for kinds in (*TITLES, PARTS)]
            if all(titles[:2]):
                yield _sure([str(said.get(title) or "") for title in titles], titles[1] not in WORDS)
    elif columns := columns_titled(table, TITLES):
        sure = bool(columns_titled(table, (TITLES[0], TITLES[1][: -len(WORDS)])))
        columns += columns_titled(table, (PARTS,))
        yield from (_sure([row[i] if i < len(row) else "" for i in columns], sure) for row in read_rows(table)[1:])


def _sure(line: list[str], titled: bool) -> list[str]:
    """A line without its mask, where that may be a word or number about the photo, or another photo."""
    image, mask, *part = line
    path = Path(mask.replace("\\", "/"))
    is_file = path.suffix.lower() in IMAGE_SUFFIXES[4:] or len(path.parts) > 1  # the first ones are of JPEG
    another = path.parent.name != "" and path.parent == Path(image.replace("\\", "/")).parent
    return line if titled or (is_file and not another) else [image, "", *part]


def _pairs(path: Path) -> list[list[str]]:
    """The lines of a text that has a photo and its mask in each, if these are there and some are named unlike, or
    lie in a folder that is not called as one of masks: else names pair them without it."""
    with path.open("rb") as file:
        if len(file.readline(4096).split()) != 2:
            return []
    lines = [line.split() for line in read_text(path, what="list").splitlines() if line.strip()]
    if not all(len(line) == 2 and all((path.parent / name).is_file() for name in line) for line in lines):
        return []
    if all(
        Path(first).parent.name.lower() in MASKS and Path(second).parent.name.lower() not in MASKS
        for first, second in lines
    ):
        lines = [line[::-1] for line in lines]
    if not all(OF_MASKS.search(Path(b).parent.name) or Path(a).suffix != Path(b).suffix for a, b in lines):
        return []  # two photos of one thing
    unlike = any(len({bare(Path(name).stem) for name in line}) > 1 for line in lines)
    return lines if unlike or any(Path(mask).parent.name.lower() not in MASKS for _, mask in lines) else []


def _found(
    table: Path, cells: list[tuple[str, str, str]], files: Sequence[Path]
) -> list[tuple[Path, Path | None, str]]:
    """Photo, mask and part of each line: the file of that path from where the table lies, or the only one that ends so
    but for its suffix, or of several the one in, or not in, a folder for masks.

    Empty where no mask is there, as in a table of classes or run lengths.
    """
    called: dict[str, list[Path]] = {}
    for path in files:
        for spelling in {path.name, path.stem}:
            called.setdefault(spelling, []).append(path)

    def place(cell: str, *, mask: bool = False) -> Path:
        path, words = table.parent / cell, Path(cell).parts
        if path.is_file():
            return path
        ends = [file for file in called.get(path.name, ()) if file.parts[-len(words) : -1] == words[:-1]]
        if len(ends) > 1:
            ends = [file for file in ends if (file.parent.name.lower() in MASKS) == mask]
        return ends[0] if len(ends) == 1 else path

    rows = [(place(image), place(mask, mask=True) if mask else None, part) for image, mask, part in cells]
    return rows if any(mask and mask.is_file() for _, mask, _ in rows) else []
