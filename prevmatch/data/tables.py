"""Data sets that `datasets` loads: from the Hub, from `save_to_disk`, or written by `prevmatch prepare`."""

from pathlib import Path

import datasets

from prevmatch.data.instances import is_annotation
from prevmatch.data.palettes import voc_colours
from prevmatch.data.reading import open_cell
from prevmatch.data.sources import FEATURES, RGB, Source
from prevmatch.data.splits import has_mask
from prevmatch.data.trusted import check_cells, check_shards
from prevmatch.errors import ConfigError, DataError

TRAIN, VAL, BARE = ("train",), ("validation", "val", "valid", "test"), ("unlabelled", "unlabeled", "unsupervised")


def is_table(folder: Path) -> bool:
    """Whether a folder was written by `prevmatch prepare` or `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or "train" in _shards(folder)


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
        if (Path(name) / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)
        elif shards := _shards(Path(name)):
            check_shards(path for paths in shards.values() for path in paths)
            # Not by the folder's name: `datasets` caches folders of one name and card as if they were the same.
            loaded = datasets.load_dataset("parquet", data_files=shards)
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
        if part in BARE and mask_column not in rows.column_names:
            rows = rows.add_column(mask_column, [None] * len(rows), feature=FEATURES["mask"])
        parts[part] = _renamed(rows, name, part, image_column, mask_column)
        check_cells(parts[part], name, part)
    return datasets.DatasetDict(parts)


def load_table(name: str, class_names: tuple[str, ...], palette: tuple[RGB, ...]) -> Source:
    """Load a prepared data set whose classes are known; DataError if its parts or classes are others."""
    parts = load_parts(name)
    train, val = part_of(parts, TRAIN), part_of(parts, VAL)
    if train is None or val is None:
        raise DataError(f"data set {name!r} has the parts {', '.join(parts)}; it needs train and validation")
    own = classes_of(train)
    if own and own != class_names:
        raise DataError(f"data set {name!r} has other classes ({', '.join(own[:4])}, …) than its name says")
    return Source(train=train, val=val, class_names=class_names, palette=palette)


def part_of(parts: datasets.DatasetDict, names: tuple[str, ...]) -> datasets.Dataset | None:
    """The first part that bears one of the names."""
    return next((parts[name] for name in names if name in parts), None)


def classes_of(rows: datasets.Dataset) -> tuple[str, ...]:
    """The class names that a prepared data set carries in its features; empty for others."""
    feature = getattr(rows.features.get("classes"), "feature", None)
    return tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()


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
    kept = {image_column: "image", mask_column: "mask"}
    if "id" in rows.column_names:
        kept["id"] = "id"
    if classes_of(rows):
        kept["classes"] = "classes"
    rows = rows.select_columns(list(kept)).rename_columns(kept)
    if "id" not in kept:
        rows = rows.add_column("id", [f"{part}/{i:06d}" for i in range(len(rows))])
    for column in ("image", "mask"):
        if not isinstance(rows.features[column], datasets.Image):
            raise ConfigError(f"column {column!r} of data set {name!r} is {rows.features[column]}, not images")
        rows = rows.cast_column(column, FEATURES[column])
    if rows.features["id"] != FEATURES["id"]:
        rows = rows.cast_column("id", FEATURES["id"])
    return rows
