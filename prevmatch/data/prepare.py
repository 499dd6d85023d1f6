"""Raw folders made into self-contained data sets: parquet shards that `datasets` and the Hub read without any code."""

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as parquet
from huggingface_hub import HfApi
from PIL import Image
from pyarrow import ArrowInvalid

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.fingerprints import fingerprint
from prevmatch.data.reading import read_image, read_pair
from prevmatch.data.sources import Source
from prevmatch.errors import DataError
from prevmatch.progress import progress
from prevmatch.writing import write_text

COUNTS = {
    "pascal": (10_582, 1_449),
    "cityscapes": (2_975, 500),
    "coco": (118_287, 5_000),
    "ade20k": (20_210, 2_000),
    "camvid": (367, 101),
}
"""Training and validation images of the data sets that are always the same."""

SHARD_BYTES = 400_000_000
MARKER, CARD = "prepare.json", "README.md"


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is written where."""

    source: Source
    name: str
    output_dir: Path
    decoded: bool = False
    """Store pixels instead of compressed files: some ten times the space, no decoding."""
    rows_per_shard: int = 0
    """0 makes shards of about 400 MB."""


def check_counts(source: Source, name: str) -> None:
    """Raise DataError unless a known data set has as many images as it should, each with a mask."""
    for part, rows, expected in zip(("training", "validation"), (source.train, source.val), COUNTS[name], strict=True):
        masked = sum(mask is not None for mask in rows["mask"])
        if (len(rows), masked) != (expected, expected):
            raise DataError(
                f"{name} has {len(rows)} {part} images, {masked} of them with a mask, where {expected} belong; "
                "complete the folder, or add --allow_incomplete"
            )


def prepare(job: Preparation, *, overwrite: bool = False) -> None:
    """Write all shards that are not there yet, then the card; an interrupted preparation goes on where it was.

    Columns: id, image (the file's bytes, or pixels as an uncompressed bitmap), mask (class ids as a palette image in
    the classes' colours, 255 = ignored), classes (which occur, with their names).
    Raises DataError for unreadable files and, without `overwrite`, if output_dir holds another preparation, one of
    files that have changed since, or files that would be replaced. A card that is there stays.
    """
    marker, identity = job.output_dir / MARKER, _identity(job)
    problem = _problem(job.output_dir, identity)
    if problem and not overwrite:
        raise DataError(f"{job.output_dir} {problem}; choose another --output_dir, or replace it with --overwrite")
    if problem:
        for path in (*_shards(job.output_dir), job.output_dir / CARD, marker):
            path.unlink(missing_ok=True)
    (job.output_dir / "data").mkdir(parents=True, exist_ok=True)
    for torn in _shards(job.output_dir, "."):  # of a killed preparation
        torn.unlink()
    write_text(marker, json.dumps(identity, indent=2) + "\n")
    for part, rows in (("train", job.source.train), ("validation", job.source.val)):
        if len(rows):
            _write_part(job, part, rows)
    if not (job.output_dir / CARD).exists():  # it may have been completed by hand
        write_text(job.output_dir / CARD, _card(job))


def _problem(folder: Path, identity: dict) -> str | None:
    """Why a folder cannot simply be prepared into, or prepared on."""
    try:
        earlier = json.loads((folder / MARKER).read_text())
    except FileNotFoundError:
        there = [path.name for path in (folder / CARD, *_shards(folder)) if path.exists()]
        return f"holds {there[0]}, which `prevmatch prepare` did not write" if there else None
    except (OSError, ValueError, RecursionError):
        return f"holds a {MARKER} that cannot be read"
    if earlier == identity:
        return None
    if isinstance(earlier, dict) and earlier | {"source": identity["source"]} == identity:
        return "was prepared from images or masks that have changed since"
    return "holds another preparation"


def _shards(folder: Path, prefix: str = "") -> list[Path]:
    """The shards in a folder, or those that were being written when a preparation was killed."""
    return [path for part in ("train", "validation") for path in folder.glob(f"data/{prefix}{part}-*-of-*.parquet")]


def push(folder: Path, repo_id: str) -> str:
    """Upload a prepared folder to the Hub data set `repo_id`, created private if it is new; returns its address.

    Raises DataError if that fails; what was prepared stays.
    """
    api = HfApi()
    try:
        url = api.create_repo(repo_id, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=["README.md", "data/*.parquet"],
            commit_message="Upload prepared data set",
        )
    except Exception as error:  # the client raises errors of many families
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{folder} could not be uploaded to {repo_id!r} ({reason}); log in with `hf auth login` if need be and "
            "run the same command again"
        ) from error
    return str(url)


def _write_part(job: Preparation, part: str, rows: datasets.Dataset) -> None:
    per_shard = job.rows_per_shard or _rows_per_shard(job, rows)
    shards = -(-len(rows) // per_shard)
    classes = datasets.List(datasets.ClassLabel(names=list(job.source.class_names)))
    images = {"image": datasets.Image(), "mask": datasets.Image()}  # decoded for whoever else loads the data set
    features = datasets.Features({"id": datasets.Value("string"), **images, "classes": classes})
    with progress(total=len(rows), desc=part, unit="image") as bar, ThreadPoolExecutor() as pool:
        for number in range(shards):
            path = job.output_dir / "data" / f"{part}-{number:05d}-of-{shards:05d}.parquet"
            chosen = range(number * per_shard, min((number + 1) * per_shard, len(rows)))
            if path.is_file() and _row_count(path) == len(chosen):
                bar.update(len(chosen))
                continue
            cells = []
            for cell in pool.map(partial(_cells, job=job), (rows[i] for i in chosen)):  # PIL frees the interpreter
                cells.append(cell)
                bar.update()
            aside = path.with_name(f".{path.name}")
            try:
                datasets.Dataset.from_list(cells, features=features).to_parquet(aside)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)


def _cells(row: dict, *, job: Preparation) -> dict:
    """One row with everything inside it."""
    image, mask, classes = row["image"], None, []
    if row["mask"] is None:
        pixels, ids = read_image(row, bits=job.source.bits), None
    else:
        pixels, ids = read_pair(row, job.source)
        classes = [int(i) for i in np.unique(np.asarray(ids)) if i != IGNORE_INDEX]
        palette = np.full((256, 3), 255, dtype=np.uint8)
        palette[: len(job.source.palette)] = job.source.palette
        ids.putpalette(palette.tobytes())
        mask = {"bytes": _file(ids, "BMP" if job.decoded else "PNG"), "path": f"{row['id']}.png"}
    if job.decoded:
        image = {"bytes": _file(pixels, "BMP"), "path": f"{row['id']}.bmp"}
    elif image["bytes"] is None:
        image = {"bytes": Path(image["path"]).read_bytes(), "path": Path(image["path"]).name}
    return {"id": row["id"], "image": image, "mask": mask, "classes": classes}


def _file(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def _rows_per_shard(job: Preparation, rows: datasets.Dataset) -> int:
    """Shards of about 400 MB, judged by the first rows."""
    sample = [_cells(rows[i], job=job) for i in range(min(8, len(rows)))]
    size = sum(len(cell["image"]["bytes"]) + len((cell["mask"] or {"bytes": b""})["bytes"]) for cell in sample)
    return max(1, SHARD_BYTES * len(sample) // size)


def _row_count(path: Path) -> int:
    """Rows of a shard; -1 for a torn one."""
    try:
        return parquet.ParquetFile(path).metadata.num_rows
    except (OSError, ArrowInvalid):
        return -1


def _identity(job: Preparation) -> dict:
    """What must be equal for shards to belong together."""
    ids = "\n".join([*job.source.train["id"], "", *job.source.val["id"]])
    return {
        "name": job.name,
        "decoded": job.decoded,
        "rows_per_shard": job.rows_per_shard,
        "classes": list(job.source.class_names),
        "ids": hashlib.sha256(ids.encode()).hexdigest(),
        "source": [fingerprint(job.source.train), fingerprint(job.source.val)],
    }


def _card(job: Preparation) -> str:
    """The data set's page on the Hub: which files make which part, and what the columns are."""
    parts = [part for part, rows in (("train", job.source.train), ("validation", job.source.val)) if len(rows)]
    files = "".join(f"  - split: {part}\n    path: data/{part}-*\n" for part in parts)
    counts = f"{len(job.source.train)} training and {len(job.source.val)} validation images"
    form = "uncompressed bitmaps" if job.decoded else "the original files"
    return (
        f"---\ntask_categories:\n- image-segmentation\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"
        f"# {job.name}, prepared for semantic segmentation\n\n"
        f"{counts}, {job.source.num_classes} classes. Columns: `id`; `image`, {form}; `mask`, one class id per pixel "
        "as a palette image, 255 = ignored, or nothing where an image is unlabelled; `classes`, those that occur.\n\n"
        "Written by `prevmatch prepare`. The images stay under the licence of the data set that they come from.\n"
    )
