"""Data sets that `datasets` loads: from the Hub, from `save_to_disk`, or written by `prevmatch prepare`."""

from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from prevmatch.data.cells import open_cell
from prevmatch.data.found import Found
from prevmatch.data.instances import is_annotation
from prevmatch.data.palettes import voc_colours
from prevmatch.data.parts import role_of
from prevmatch.data.sources import FEATURES, RGB, Source
from prevmatch.data.splits import has_mask, is_there
from prevmatch.data.trusted import check_cells, check_shards
from prevmatch.errors import ConfigError, DataError

SAVED = ("dataset_dict.json", "state.json")
"""Files of `save_to_disk`: of several parts, or of one."""


def is_table(folder: Path) -> bool:
    """Whether a folder was written by `prevmatch prepare` or `save_to_disk`."""
    return any((folder / name).is_file() for name in SAVED) or "train" in _shards(folder)


def _shards(folder: Path) -> dict[str, list[str]]:
    """The parquet files of each part, as `prevmatch prepare` names them."""
    shards: dict[str, list[str]] = {}
    for path in sorted(folder.glob("data/*-[0-9]*-of-[0-9]*.parquet")):
        shards.setdefault(path.name.partition("-")[0], []).append(str(path))
    return shards


def load_parts(name: str, image_column: str = "image", mask_column: str = "mask") -> datasets.DatasetDict:
    """Load a data set and give its columns the names id, image, mask; `classes` is kept where it is there.

    `name` is a Hub id or a folder. Raises DataError if it cannot be loaded or lacks the columns.
    """
    try:
        if any((Path(name) / file).is_file() for file in SAVED):
            loaded = datasets.load_from_disk(name)
        elif shards := _shards(Path(name)):
            check_shards(path for paths in shards.values() for path in paths)
            # Not by the folder's name: `datasets` caches folders of one name and card as if they were the same.
            loaded = _from_parquet(shards)
        else:
            loaded = datasets.load_dataset(name)
    except DataError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise DataError(f"data set {name!r} cannot be loaded ({type(error).__name__}: {reason})") from error
    if not isinstance(loaded, dict):
        loaded = {"train": loaded}
    parts = {}
    for part, rows in loaded.items():
        if mask_column not in rows.column_names and any(mask_column in each.column_names for each in loaded.values()):
            rows = rows.add_column(mask_column, [None] * len(rows), feature=FEATURES["mask"])
        parts[part] = _renamed(rows, name, part, image_column, mask_column)
        check_cells(parts[part], name, part)
    if len({str(rows.features.get("classes")) for rows in parts.values()}) > 1:  # not of one list of classes
        parts = {
            part: rows.remove_columns("classes") if "classes" in rows.column_names else rows
            for part, rows in parts.items()
        }
    return datasets.DatasetDict(_told_apart(parts))


def _told_apart(parts: dict[str, datasets.Dataset]) -> dict[str, datasets.Dataset]:
    """The parts with ids that are unique over all: their own, or these with the part before them, or row numbers."""
    own = {part: rows["id"][:] for part, rows in parts.items()}
    with_part = {part: [f"{part}/{name}" for name in names] for part, names in own.items()}
    places = {part: [f"{part}/{i:06d}" for i in range(len(names))] for part, names in own.items()}
    for ids in (own, with_part, places):
        every = [name for names in ids.values() for name in names]
        if len(set(every)) == len(every):
            break
    return {
        part: rows if ids[part] == own[part] else rows.remove_columns("id").add_column("id", ids[part])
        for part, rows in parts.items()
    }


def _from_parquet(shards: dict[str, list[str]]) -> datasets.DatasetDict:
    """The parts as `datasets` caches them, memory-mapped, or read into memory where no cache can be written."""
    try:
        return datasets.load_dataset("parquet", data_files=shards)
    except OSError:
        whole = {
            part: datasets.Dataset(pyarrow.concat_tables([parquet.read_table(path) for path in paths]))
            for part, paths in shards.items()
        }
        return datasets.DatasetDict(whole)


def read(name: str, image_column: str = "image", mask_column: str = "mask") -> Found:
    """A data set with all its parts, and the classes that its features name; the errors of `load_parts`."""
    parts = load_parts(name, image_column, mask_column)
    first = next(iter(parts.values()))
    names = classes_of(first)
    palette = palette_of(first, len(names)) if names else ()
    return Found(parts=dict(parts), class_names=names, palette=palette, tagged=bool(names), layout=f"data set {name}")


def load_table(name: str, class_names: tuple[str, ...], palette: tuple[RGB, ...]) -> Source:
    """Load a prepared data set whose classes are known; DataError if its parts or classes are others."""
    parts = load_parts(name)
    train, val = (next((parts[part] for part in parts if role_of(part) == role), None) for role in ("train", "val"))
    if train is None or val is None:
        raise DataError(f"data set {name!r} has the parts {', '.join(parts)}; it needs train and validation")
    own = classes_of(train)
    if own and own != class_names:
        raise DataError(f"data set {name!r} has other classes ({', '.join(own[:4])}, …) than its name says")
    return Source(train=train, val=val, class_names=class_names, palette=palette)


def classes_of(rows: datasets.Dataset) -> tuple[str, ...]:
    """The class names that a prepared data set carries in its features; empty for others."""
    feature = getattr(rows.features.get("classes"), "feature", None)
    return tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()


def tags_agree(rows: datasets.Dataset, counts: np.ndarray) -> bool:
    """Whether the column `classes` lists what occurs in each mask, by pixels int64 (N, C + 1), or else tags."""
    there = (np.flatnonzero(mask[:-1]) for mask in counts)
    return all(set(tags or ()) == set(found.tolist()) for tags, found in zip(rows["classes"], there, strict=True))


def palette_of(rows: datasets.Dataset, count: int) -> tuple[RGB, ...]:
    """The colours in the first mask, where it is a palette image that has enough of them, else those of VOC."""
    first = next((i for i, there in enumerate(has_mask(rows)) if there), None)
    if first is not None and not is_annotation(rows[first]["mask"]["bytes"]):
        mask = open_cell(rows[first], "mask")
        values = mask.getpalette("RGB") if mask.mode == "P" else None
        if values and len(values) >= 3 * count:
            return tuple((values[i], values[i + 1], values[i + 2]) for i in range(0, 3 * count, 3))
    return voc_colours(count)


def _renamed(rows: datasets.Dataset, name: str, part: str, image_column: str, mask_column: str) -> datasets.Dataset:
    for column, setting in ((image_column, "image_column"), (mask_column, "mask_column")):
        if column not in rows.column_names:
            raise ConfigError(
                f"data set {name!r} has no column {column!r}; its columns are {', '.join(rows.column_names)}; name "
                f"one with --{setting}"
            )
    if image_column == mask_column:
        raise ConfigError(f"image_column and mask_column are both {mask_column!r}; name two columns")
    kept = {image_column: "image", mask_column: "mask"}
    plain = isinstance(rows.features.get("id"), datasets.Value)
    if plain and "id" not in kept:
        kept["id"] = "id"
    if classes_of(rows):
        kept["classes"] = "classes"
    rows = rows.select_columns(list(kept)).rename_columns(kept)
    for column in ("image", "mask"):
        if not isinstance(rows.features[column], datasets.Image):
            raise ConfigError(f"column {column!r} of data set {name!r} is {rows.features[column]}, not images")
    missing = np.flatnonzero([not there for there in is_there(rows, "image")])
    if len(missing):
        raise DataError(
            f"row {missing[0]} of part {part} of data set {name!r} has no image ({len(missing)} rows have none); "
            "remove such rows"
        )
    if "id" not in kept:
        rows = rows.add_column("id", [f"{part}/{i:06d}" for i in range(len(rows))])
    for column in ("image", "mask"):
        rows = rows.cast_column(column, FEATURES[column])
    if rows.features["id"] != FEATURES["id"]:
        rows = rows.cast_column("id", FEATURES["id"])
    return rows
