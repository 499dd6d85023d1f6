"""The lists of images that the papers divide data sets by: fetched once, verified, cached; or read from a folder."""

import hashlib
import http.client
import json
import logging
import os
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath

from huggingface_hub import cached_assets_path

from prevmatch.errors import ConfigError, DataError

log = logging.getLogger(__name__)

ADDRESS = "https://raw.githubusercontent.com/{repository}/{commit}/{folder}"
SOCKET_SECONDS, TOTAL_SECONDS = 20, 120


@cache
def manifest() -> dict:
    """Where the published lists are (repository, commit, folder), and sha256 and size of each."""
    return json.loads(files("prevmatch.data").joinpath("published_lists.json").read_text())


def published_splits(dataset: str) -> list[str]:
    """Names of a data set's published splits; empty where none are published."""
    names = (PurePosixPath(name) for name in manifest()["files"] if name.startswith(f"{dataset}/"))
    return [path.parts[1] for path in names if path.name == "labeled.txt"]


def split_folder(split: str) -> str:
    """The folder of a split's lists: `1/16` is 1_16, `blended_1_16` too, `priority_1_16` is u2pl_1_16."""
    folder = split.replace("/", "_").removeprefix("blended_").removeprefix("original_")
    return folder.replace("priority_", "u2pl_")


def labelled_list(dataset: str, split: str, splits_dir: str | None) -> tuple[list[str], list[str] | None]:
    """Ids of a split's labelled images and of its unlabelled ones; None for these means all the others.

    Published lists always divide the whole training set, so only the labelled half is fetched; a folder of own lists
    may hold an `unlabeled.txt` that says otherwise.
    Raises ConfigError for an unknown split, DataError where a list cannot be had or read.
    """
    folder = f"{dataset}/{split_folder(split)}"
    own = _own_folder(splits_dir)
    if own is None and f"{folder}/labeled.txt" not in manifest()["files"]:
        raise ConfigError(
            f"{dataset} has no published split {split!r}; choose one of {', '.join(published_splits(dataset))}, draw "
            "one with --labelled, or give own lists with --splits_dir"
        )
    unlabelled = f"{folder}/unlabeled.txt"
    ids = read_list(f"{folder}/labeled.txt", splits_dir)
    return ids, read_list(unlabelled, splits_dir) if own and (own / unlabelled).is_file() else None


def read_list(name: str, splits_dir: str | None) -> list[str]:
    """Ids of the images that a list such as `pascal/val.txt` names; see `labelled_list` for errors."""
    path = list_file(name, splits_dir)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"list {path} cannot be read ({error}); replace it") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> list[str]:
    """Ids from lines of `image-path mask-path` (the mask may be missing); errors name the list and the line.

    Raises DataError for absolute paths and such that leave the data folder, for doubles, and for an empty list.
    """
    ids: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        paths = [PurePosixPath(word) for word in line.split()]
        if not paths:
            continue
        if len(paths) > 2:
            raise DataError(f"{name}, line {number}: {len(paths)} paths where an image and its mask belong")
        if any(path.is_absolute() or ".." in path.parts or "\\" in str(path) or ":" in str(path) for path in paths):
            raise DataError(f"{name}, line {number}: {line[:80]!r} leaves the data folder; list relative paths only")
        name_of_image = image_id(paths[0])
        if name_of_image in ids:
            raise DataError(f"{name}, line {number}: {name_of_image!r} stands in line {ids[name_of_image]} already")
        ids[name_of_image] = number
    if not ids:
        raise DataError(f"{name} is empty; it lists one image a line")
    return list(ids)


def image_id(path: PurePosixPath | Path) -> str:
    """What tells an image from the others of its data set: the file's name without what all names share."""
    return path.stem.removesuffix("_leftImg8bit")


def list_file(name: str, splits_dir: str | None) -> Path:
    """Local file of a list: in the folder splits_dir, or fetched from the pinned commit (or the mirror) and cached."""
    own = _own_folder(splits_dir)
    expected = manifest()["files"].get(name)
    if own is not None:
        path = own / name
        if not path.is_file():
            raise DataError(f"splits_dir {own} has no {name}; it is laid out as the published lists, DATASET/SPLIT/")
        if expected and _digest(path.read_bytes()) != expected["sha256"]:
            log.warning("%s differs from the published list of that name", path)
        return path
    if expected is None:
        raise DataError(f"there is no published list {name}; give own lists with --splits_dir")
    cached = cached_assets_path("prevmatch", namespace="splits", subfolder=manifest()["commit"]) / name
    if not cached.is_file() or _digest(cached.read_bytes()) != expected["sha256"]:
        _fetch(name, expected, splits_dir or ADDRESS.format(**manifest()), cached)
    return cached


def _own_folder(splits_dir: str | None) -> Path | None:
    if splits_dir is None or splits_dir.startswith(("http://", "https://")):
        return None
    folder = Path(splits_dir)
    if not folder.is_dir():
        raise ConfigError(f"splits_dir {folder} is neither a folder nor an http(s) address")
    return folder


def _fetch(name: str, expected: dict, address: str, target: Path) -> None:
    """Download a list, verify it, and put it in place in one move."""
    url = f"{address.rstrip('/')}/{name}"
    try:
        content = _download(url, expected["bytes"])
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", None) or error).strip().partition("\n")[0]
        raise _unobtainable(name, url, reason) from None
    if _digest(content) != expected["sha256"]:
        raise _unobtainable(name, url, "its sha256 is not that of the published list")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(aside).replace(target)


def _download(url: str, size: int) -> bytes:
    """The reply's body, never more than one byte beyond `size`; a reply that only trickles ends as a timeout."""
    content, end = b"", time.monotonic() + TOTAL_SECONDS
    with urllib.request.urlopen(url, timeout=SOCKET_SECONDS) as reply:
        while len(content) <= size and (part := reply.read1(min(1 << 16, size + 1 - len(content)))):
            content += part
            if time.monotonic() > end:
                raise TimeoutError("too slow")
    return content


def _unobtainable(name: str, url: str, reason: str) -> DataError:
    source = manifest()
    return DataError(
        f"list {name} could not be had from {url} ({reason}); without internet put the folder {source['folder']}/ of "
        f"github.com/{source['repository']} (commit {source['commit'][:10]}) somewhere and name it with --splits_dir"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def first_five(ids: Sequence[str]) -> str:
    """The beginning of a list of ids, for a message."""
    return ", ".join(repr(name) for name in ids[:5]) + (", …" if len(ids) > 5 else "")
