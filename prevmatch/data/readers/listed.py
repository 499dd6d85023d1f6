"""Photos and masks that a table pairs: a CSV or TSV with a column for each, paths from where it lies."""

from pathlib import Path

from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.readers.folders import UNLABELLED, classes_beside
from prevmatch.data.sources import file_cell
from prevmatch.data.texts import columns_titled, read_rows
from prevmatch.data.walking import walk
from prevmatch.errors import DataError

TITLES = (
    ("image", "images", "img", "photo", "image_path", "img_path", "image_file", "filename", "file_name", "path"),
    ("mask", "masks", "label", "mask_path", "label_path", "mask_file", "annotation", "segmentation", "target"),
)


def read(folder: Path) -> Found | None:
    """Pair as the tables say; a photo beside listed ones is unlabelled, unless masks lie there too.

    A table whose first mask is no file pairs something else. Raises DataError for a listed file that is missing, or is
    both, and for a photo with two masks.
    """
    tables = {table: _rows(table) for table in sorted([*folder.glob("*.csv"), *folder.glob("*.tsv")])}
    tables = {table: rows for table, rows in tables.items() if rows}
    if not tables:
        return None
    walked = walk(folder)
    there = set(walked.files)
    mask_of: dict[Path, Path | None] = {}
    listed: dict[Path, str] = {}
    for table, rows in tables.items():
        for image, mask in rows:
            if missing := {image, mask or image} - there:
                raise DataError(f"{table} lists {missing.pop()}, which is no image there; correct the line")
            if mask_of.setdefault(image, mask) != mask:
                raise DataError(f"{table} gives {image} a second mask; keep one")
            listed[image] = table.stem if role_of(table.stem) else ""
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


def _rows(table: Path) -> list[tuple[Path, Path | None]]:
    """Photo and mask of each line; empty where the table's first mask is no file, as of classes or run lengths."""
    columns = columns_titled(table, TITLES)
    rows = [[row[i] if i < len(row) else "" for i in columns] for row in read_rows(table)[1:]] if columns else []
    paths = [[table.parent / cell.replace("\\", "/") if cell else None for cell in row] for row in rows]
    first = next((mask for _, mask in paths if mask), None)
    return [(image, mask) for image, mask in paths if image] if first and first.is_file() else []
