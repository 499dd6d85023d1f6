"""Text files as people have them, UTF-8 or UTF-16, with or without byte order mark; and lists of classes."""

import codecs
import csv
import io
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prevmatch.config import IGNORE_INDEX
from prevmatch.errors import DataError

CLASS_LISTS = (
    "classes.txt", "class_names.txt", "labels.txt", "obj.names", "classes.names", "classes.csv", "labels.csv",
    "classes.json", "labels.json", "data.yaml", "data.yml", "dataset.yaml", "_classes.csv",
)  # fmt: skip
"""Files in which tools name the classes; the first that is there counts."""
IDS = ("id", "value", "pixel value", "pixel_value", "index", "class_id", "class id", "label_id", "label id", "number")
NAMED = ("name", "class", "label", "class_name", "class name", "label_name", "category", "category_name")
"""What the columns of ids and of names are called, and the keys in JSON."""
NUMBER_FIRST = re.compile(r"(?P<id>\d+)\s*(?:[-=]>|-\s|[:;,=.)\t ])\s*(?P<name>\D.*)")
NUMBER_LAST = re.compile(r"(?P<name>\D[^,;]*?)\s*(?:[-=]>|-\s|[:;,=\t ])\s*(?P<id>\d{1,3})")
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
NOT_A_CLASS = ("__ignore__",)
"""What labelme writes into the first line."""


def read_text(path: Path, *, what: str = "file") -> str:
    """The text of a file, UTF-8 or, by its byte order mark, UTF-16; DataError naming the file where it is neither."""
    if path.exists() and not path.is_file():
        raise DataError(f"{what} {path} is no file but a folder, pipe or device; remove it")
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content.startswith(WIDE) else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{what} {path} cannot be read ({error}); save it as UTF-8 text") from error


def read_json(path: Path, *, what: str = "file") -> Any:
    """The content of a JSON file; DataError naming the file where it is none."""
    try:
        return json.loads(read_text(path, what=what))
    except ValueError as error:
        raise DataError(f"{what} {path} is no JSON ({error})") from error


def read_rows(path: Path, *, what: str = "table") -> list[list[str]]:
    """The cells of a table of commas, semicolons or tabs, without empty lines; DataError as `read_text` has it."""
    text = read_text(path, what=what)
    return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), dialect=_dialect(text)) if row]


def columns_titled(path: Path, titles: Sequence[Sequence[str]]) -> list[int]:
    """Where the columns of such a table stand that have one of the `titles` each; empty if one is not there.

    Of several such columns that of the first title counts. Only the first line is read, and nothing raised for what
    is no such table; a pipe is not waited for.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        first = file.read(4096)
    text = first.decode("utf-16" if first.startswith(WIDE) else "utf-8-sig", errors="replace")
    return _titled(re.split(r"[,;\t]", text.partition("\n")[0]), titles)


def _titled(cells: Sequence[str], titles: Sequence[Sequence[str]]) -> list[int]:
    plain = [cell.strip("\"' \r\n").lower() for cell in cells]
    found = [next((plain.index(name) for name in names if name in plain), -1) for names in titles]
    return found if min(found) >= 0 else []


def find_class_list(folder: Path) -> Path | None:
    """The file in a folder that names the classes, or None; one that names photos is none."""
    files = (folder / name for name in CLASS_LISTS)
    listed = next((path for path in files if path.is_file() and not _names_photos(path)), None)
    return listed or (path if _is_of_nnunet(path := folder / "dataset.json") else None)


def _is_of_nnunet(path: Path) -> bool:
    """Whether a dataset.json is nnU-Net's; other tools keep other things in files of that name."""
    with suppress(DataError):
        content = read_json(path) if path.is_file() else None
        return isinstance(content, dict) and {"labels", "numTraining"} <= content.keys()
    return False


def _names_photos(path: Path) -> bool:
    """Whether a list begins with the name of an image file, which no class is called: photos and their tags."""
    if columns_titled(path, (IDS, NAMED)):
        return False
    with path.open("rb") as file:
        lines = file.read(4096).decode("utf-8", errors="replace").splitlines()
    lines = [line.strip("{[ \"'") for line in lines if not line.startswith("#")][:2]
    return any(re.match(r"[^,;\t:]*\.(jpe?g|png|tiff?|bmp|webp|gif)\b", line, re.IGNORECASE) for line in lines)


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names of `read_classes` where they are in the order of their ids; DataError for ids with gaps."""
    names, ids = read_classes(path)
    if ids != tuple(range(len(ids))):
        raise DataError(f"class list {path} gives the ids {list(ids[:5])}…; here they must be 0, 1, 2, … without gaps")
    return names


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names in the order of their ids, and the ids, from a line each (`sky`, `0: sky`, `sky 0`), CSV, JSON or
    `names:` of YAML; where no ids are given these are 0, 1, 2, …; lines that begin with # say nothing.

    labelme's `__ignore__` in the first line is no class, nor is the id 255. Raises DataError for names that are
    missing or there twice, and for ids that are.
    """
    names, ids = _numbered(_entries(path), path)
    if names[:1] == ["__ignore__"]:
        names, ids = names[1:], list(range(len(names) - 1))
    while names and not names[-1]:
        names, ids = names[:-1], ids[:-1]
    wrong = [name for i, name in enumerate(names) if not name or name in names[:i]]
    if wrong or not 1 <= len(names) <= 255:
        raise DataError(f"class list {path} needs 1 to 255 different names, one a line; it has {wrong or 'none'}")
    return tuple(names), tuple(ids)


def _entries(path: Path) -> list[tuple[int | None, str]]:
    """Ids, where they are given, and names."""
    what = "class list"
    match path.suffix.lower():
        case ".json":
            return _of_value(read_json(path, what=what), path)
        case ".yaml" | ".yml":
            import yaml

            try:
                content = yaml.safe_load(read_text(path, what=what))
            except yaml.YAMLError as error:
                raise DataError(f"class list {path} is no YAML ({str(error).splitlines()[0]})") from error
            return _of_value(content, path)
        case ".csv":
            rows = read_rows(path, what=what)
            if columns := _titled(rows[0] if rows else (), (IDS, NAMED)):
                cells = [[row[i] if i < len(row) else "" for i in columns] for row in rows[1:]]
                return [(_number(number, path), name) for number, name in cells]
            entries: list[tuple[int | None, str]] = []
            for row in rows:
                numbers = [int(cell) for cell in row if cell.isdecimal()]
                number = numbers[0] if len(numbers) in (1, 4) else None  # three are the parts of a colour
                entries.append((number, next((cell for cell in row if not re.fullmatch(r"[\d. ]*", cell)), "")))
            titles = entries and entries[0][0] is None and any(number is not None for number, _ in entries[1:])
            return (
                entries[1:]
                if titles or (entries[:1] and entries[0][1].lower() in ("name", "class", "label"))
                else entries
            )
    lines = [line.strip() for line in read_text(path, what=what).splitlines()]
    lines = [re.sub(r"\s+#.*", "", line) for line in lines if not line.startswith("#")]
    lines = [line[1:-1] if re.fullmatch(r"(['\"]).*\1", line) else line for line in lines]
    if all(line.startswith("- ") or not line for line in lines):  # a list, as in YAML
        lines = [line[2:] for line in lines]
    for pattern in (NUMBER_FIRST, NUMBER_LAST):
        numbered = [pattern.fullmatch(line) for line in lines if line]
        told: list[tuple[int | None, str]] = [(int(match["id"]), match["name"].strip()) for match in numbered if match]
        title = len(numbered) > 2 and not numbered[0]
        apart = pattern is NUMBER_FIRST or all(len(set(column)) == len(told) for column in zip(*told, strict=True))
        if told and len(told) == len(numbered) - title and apart:
            return told
    return [(None, line) for line in lines]


def _number(value: Any, path: Path) -> int:
    if isinstance(value, bool) or not str(value).strip().isdecimal():
        raise DataError(f"class list {path} has {value!r} where an id belongs; give each class a whole number")
    return int(value)


def _of_value(content: Any, path: Path) -> list[tuple[int | None, str]]:
    """Entries of a list of names or of {id, name}, or of a dict id → name or name → id; below `names` or `classes`."""
    while isinstance(content, dict):
        inner = next((content[key] for key in ("names", "classes", "labels", "categories") if key in content), None)
        if not isinstance(inner, list | dict):
            break
        content = inner
    if isinstance(content, dict):
        items = list(content.items())
        if all(str(key).isdecimal() for key, _ in items):
            return [(int(key), _name(value, path)) for key, value in items]
        if all(isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) for _, value in items):
            return [(int(value), _name(key, path)) for key, value in items]
    elif isinstance(content, list) and all(isinstance(entry, str | int) for entry in content):
        return [(None, _name(entry, path)) for entry in content]
    elif isinstance(content, list) and all(isinstance(entry, dict) for entry in content):
        key = next((key for key in IDS if any(key in entry for entry in content)), None)
        return [(None if key is None else _number(entry.get(key), path), _name(entry, path)) for entry in content]
    raise DataError(f"class list {path} is neither a list of names nor a table of ids and names")


def _name(value: Any, path: Path) -> str:
    """A name, or that of an entry that says more."""
    if isinstance(value, dict):
        value = next((value[key] for key in NAMED if key in value), None)
    if isinstance(value, bool) or not isinstance(value, str | int):  # YAML takes `no` for False
        raise DataError(f"class list {path} has {value!r} where a name belongs; give each class one, in quotes")
    return str(value)


def _numbered(entries: list[tuple[int | None, str]], path: Path) -> tuple[list[str], list[int]]:
    """The names in the order of their ids, and the ids."""
    if any(number is None for number, _ in entries):
        return [name for _, name in entries], list(range(len(entries)))
    given = sorted((number or 0, name) for number, name in entries if number != IGNORE_INDEX)
    numbers = [number for number, _ in given]
    if len(set(numbers)) < len(numbers) or any(number > IGNORE_INDEX for number in numbers):
        raise DataError(f"class list {path} gives the ids {numbers[:5]}…; each class needs one of its own, below 255")
    return [name for _, name in given], numbers


def _dialect(text: str) -> type[csv.Dialect]:
    class Found(csv.excel):
        delimiter = max(",;\t", key=text.count)

    return Found
