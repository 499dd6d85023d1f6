"""Masks painted in colours: which colour is which class."""

import re
from itertools import zip_longest
from pathlib import Path

import numpy as np

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.palettes import CITYSCAPES_PALETTE, voc_colours
from prevmatch.data.texts import columns_titled, read_json, read_rows, read_text
from prevmatch.errors import DataError

RGB = tuple[int, int, int]
VOC_BORDER = (224, 224, 192)
IGNORED_NAMES = ("ignore", "__ignore__", "void")
COLOUR_LISTS = ("labelmap.txt", "class_dict.csv", "label_colors.txt", "label_colours.txt")
TITLES = (("name", "class", "class_name", "label", "label_name"), ("r", "red"), ("g", "green"), ("b", "blue"))
LINE = re.compile(r"\s*([^:]+?)\s*:\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*(:.*)?")
COLOUR_FIRST = re.compile(r"\s*(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(\S.*?)\s*")
"""A line of CamVid's own label_colors.txt."""


def palette_colours(name: str) -> dict[RGB, int]:
    """Class id of each colour of the palette `voc` (21 classes and the border) or `cityscapes` (19 and black)."""
    if name == "voc":
        return {colour: i for i, colour in enumerate(voc_colours(21))} | {VOC_BORDER: IGNORE_INDEX}
    return {colour: i for i, colour in enumerate(CITYSCAPES_PALETTE)} | {(0, 0, 0): IGNORE_INDEX}


def named_palette(colours: np.ndarray) -> str | None:
    """The palette, `voc` or `cityscapes`, that has all of the colours uint8 (N, 3); None if neither has."""
    found = {tuple(map(int, colour)) for colour in colours}
    return next((name for name in ("voc", "cityscapes") if found <= set(palette_colours(name))), None)


def find_colour_list(folder: Path) -> Path | None:
    """The file in a folder that names the classes' colours, or None: one of the usual names, or a CSV with titles.

    A CSV whose ids are not 0, 1, 2, … says how masks of ids are read, and is left to that.
    """
    usual = next((folder / name for name in COLOUR_LISTS if (folder / name).is_file()), None)
    return usual or next((path for path in sorted(folder.glob("*.csv")) if _is_colour_table(path)), None)


def _is_colour_table(path: Path) -> bool:
    columns = columns_titled(path, TITLES)
    rows = read_rows(path, what="list of colours")[1:] if columns else []
    others = [values for i, values in enumerate(zip_longest(*rows, fillvalue="")) if i not in columns]
    ids = [values for values in others if all(value.isdecimal() for value in values)]
    return bool(rows) and all([int(value) for value in values] == list(range(len(rows))) for values in ids)


def read_colours(path: Path) -> dict[str, RGB]:
    """Class names and colours from lines of `name: r, g, b`, or of `r g b name` as in CamVid's label_colors.txt.

    CVAT's labelmap.txt (`name:r,g,b:parts:actions`) is one, and so are tables of JSON and CSV.
    Raises DataError naming the line that is none.
    """
    classes: dict[str, RGB] = {}
    lines = _as_lines(path)
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None or max(map(int, match.group(2, 3, 4))) > 255:
            raise DataError(f"{path}, line {number}: {line[:60]!r} is not `name: r, g, b` with values up to 255")
        colour = (int(match[2]), int(match[3]), int(match[4]))
        if colour in classes.values() or match[1] in classes:
            raise DataError(f"{path}, line {number}: the colour or the name of {match[1]!r} is there twice")
        classes[match[1]] = colour
    if not classes:
        raise DataError(f"{path} names no class; it needs a line `name: r, g, b` for each")
    return classes


def _as_lines(path: Path) -> list[str]:
    """The lines of a list of colours; those of JSON (`{"sky": [1, 2, 3]}`) and CSV (`sky,1,2,3`) are made alike."""
    if path.suffix.lower() == ".json":
        content = read_json(path, what="list of colours")
        entries = content.items() if isinstance(content, dict) else ()
        return [f"{name}: {','.join(map(str, c)) if isinstance(c, list) else c}" for name, c in entries]
    if path.suffix.lower() != ".csv":
        lines = read_text(path, what="list of colours").splitlines()
        turned = [(line, COLOUR_FIRST.fullmatch(line)) for line in lines]
        return [f"{match[4]}: {','.join(match.group(1, 2, 3))}" if match else line for line, match in turned]
    if columns := columns_titled(path, TITLES):
        rows = read_rows(path, what="list of colours")[1:]
        cells = [[row[i] if i < len(row) else "" for i in columns] for row in rows]
        return [f"{name}: {','.join(colour)}" for name, *colour in cells]
    rows = [re.split(r"\s*[,;\t]\s*", line.strip()) for line in read_text(path, what="list of colours").splitlines()]
    return [f"{row[0]}: {','.join(row[1:4])}" for i, row in enumerate(rows) if i or row[-1].isdecimal()]


def meaning_of(classes: dict[str, RGB]) -> tuple[tuple[str, ...], tuple[RGB, ...], tuple[tuple[RGB, int], ...]]:
    """Names, palette and class id of each colour, from names with colours; one named `ignore` or `void` is ignored."""
    names = tuple(name for name in classes if name.lower() not in IGNORED_NAMES)
    ids = {name: names.index(name) if name in names else 255 for name in classes}
    return names, tuple(classes[name] for name in names), tuple((c, ids[name]) for name, c in classes.items())


def rgb_codes(pixels: np.ndarray) -> np.ndarray:
    """One number for each colour uint8 (..., 3): r · 65536 + g · 256 + b."""
    pixels = pixels.astype(np.int64)
    return pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
