"""Data sets that others made are looked at before their rows are read: what they name, and how large they unpack."""

from collections.abc import Iterable
from pathlib import Path

import datasets
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from huggingface_hub.constants import HF_HUB_CACHE
from pyarrow import ArrowException

from prevmatch.errors import DataError

MOST_BYTES_OF_A_CELL = 2**29
MOST_BYTES_OF_A_BOMB, MOST_RATIO = 2**30, 100
"""A group of rows that unpacks to more, and to so many times its size in the file, holds no images."""


def check_shards(paths: Iterable[str]) -> None:
    """Raise DataError for parquet files that are damaged, or unpack to more than images and masks need.

    Reads their last bytes alone, which tell sizes and columns.
    """
    for path in paths:
        try:
            metadata = parquet.ParquetFile(path).metadata
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            columns = [(group.num_rows, group.column(i)) for group in groups for i in range(group.num_columns)]
        except (OSError, ArrowException) as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise DataError(f"{path} is no whole parquet file ({reason}); download or prepare it again") from error
        for rows, column in columns:
            unpacked, packed = column.total_uncompressed_size, max(1, column.total_compressed_size)
            bomb = unpacked > MOST_BYTES_OF_A_BOMB and unpacked > MOST_RATIO * packed
            if bomb or unpacked > MOST_BYTES_OF_A_CELL * max(1, rows):
                raise DataError(
                    f"{path} unpacks to {unpacked} bytes in column {column.path_in_schema!r} of {rows} rows, from "
                    f"{packed}; these are no images, so it is not read"
                )


def check_cells(rows: datasets.Dataset, name: str, part: str) -> None:
    """Raise DataError if an image or mask of a data set is a file outside of it, or is no image file at all.

    `name` is what `datasets` loaded: a folder, whose own files may be named, or a data set on the Hub.
    """
    places = [Path(place).resolve() for place in (name, HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE)]
    places = places if Path(name).is_dir() else places[1:]
    for column in ("image", "mask"):
        first = 0
        for batch in rows.select_columns([column]).with_format("arrow").iter(batch_size=1000):
            for cells in batch.column(column).chunks:
                content, paths = (compute.struct_field(cells, field) for field in ("bytes", "path"))
                named = compute.and_(compute.is_null(content), compute.is_valid(paths))
                for path in compute.unique(paths.filter(named)).to_pylist():
                    if not any(Path(path).resolve().is_relative_to(place) for place in places):
                        raise DataError(
                            f"data set {name!r} names the file {path} in column {column!r} of part {part!r}, which is "
                            "not of it and is not read; embed the images in the data set"
                        )
                drawn = compute.index(compute.starts_with(content, "{"), True).as_py()
                if drawn >= 0:
                    raise DataError(
                        f"the {column} in row {first + drawn} of part {part!r} of data set {name!r} is an annotation, "
                        "not an image file; prepare the data set from its own folder"
                    )
                first += len(cells)
