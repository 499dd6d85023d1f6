"""What tells whether the images and masks of a data set are still the ones that they were."""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets

from prevmatch.errors import DataError

PIECE = 4096
"""Bytes at the beginning and the end of an image that count; of a mask all do."""
PANOPTIC = b'{"panoptic"'
"""How a mask cell begins that is the annotation of a panoptic picture."""


def fingerprint(rows: datasets.Dataset) -> str:
    """One hash of all rows: their ids, the content of the masks, and of each image its size, beginning and end.

    Files may lie elsewhere and be younger; what changes in an image changes the end of it in nearly every format.
    Raises DataError if a file cannot be read.
    """
    whole = hashlib.sha256()
    with ThreadPoolExecutor(8) as pool:  # reading waits for the disk
        for digest in pool.map(_of_row, _rows(rows)):
            whole.update(digest)
    return whole.hexdigest()


def _rows(rows: datasets.Dataset) -> Iterable[dict]:
    columns = rows.select_columns(["id", "image", "mask"])
    return (columns[i] for i in range(len(columns)))


def _of_row(row: dict) -> bytes:
    digest = hashlib.sha256(repr(row["id"]).encode(errors="surrogatepass"))
    image, mask = row["image"], row["mask"]
    try:
        for piece in (*_ends(image), *([] if mask is None else _whole(mask))):
            digest.update(hashlib.sha256(piece).digest())
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); restore it") from None
    return digest.digest()


def _whole(cell: dict) -> list[bytes]:
    content = cell["bytes"]
    if content is None:
        return [Path(cell["path"]).read_bytes()]
    if not content.startswith(PANOPTIC):
        return [content]
    annotation = json.loads(content)  # its picture is a file of its own
    return [Path(annotation.pop("panoptic")).read_bytes(), json.dumps(annotation).encode()]


def _ends(cell: dict) -> tuple[bytes, bytes, bytes]:
    if cell["bytes"] is not None:
        content = cell["bytes"]
        return str(len(content)).encode(), content[:PIECE], content[-PIECE:]
    with open(cell["path"], "rb") as file:
        first = file.read(PIECE)
        size = file.seek(0, 2)
        file.seek(max(0, size - PIECE))
        return str(size).encode(), first, file.read(PIECE)
