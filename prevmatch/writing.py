"""Writing files so that a reader never meets half of one: written aside, flushed, then renamed; and folder locks."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prevmatch.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

MANIFEST = "manifest.json"
READY = ".prevmatch-ready"
"""A folder of files that are whole and about to take their places in the folder around it."""


@contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success it takes that folder's place, on failure it vanishes."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        _flush(aside)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        _flush_entry(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def replace_files(folder: Path) -> Iterator[Path]:
    """Yield an empty folder; on success its files take their places in `folder`, and the rest there stays.

    On failure, at worst a kill, `folder` holds what it held, or `finish_files` brings the rest of the new files there.
    Raises OSError.
    """
    folder = folder.resolve()
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    finish_files(folder)
    aside = folder / ".prevmatch-new"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        _flush(aside)
        aside.rename(folder / READY)
        finish_files(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if made:
            with suppress(OSError):  # unless it holds something by now
                folder.rmdir()


def finish_files(folder: Path) -> None:
    """Bring files to their places whose `replace_files` ended in between; raises OSError.

    If not even the first of them can be moved, all are given up, and what they would have replaced stays.
    """
    ready, moved = folder / READY, False
    for path in sorted(ready.glob("*"), key=lambda path: path.suffix, reverse=True):  # weights first
        try:
            path.replace(folder / path.name)
            moved = True
        except FileNotFoundError:  # another process finishes too
            pass
        except OSError:
            if not moved:
                shutil.rmtree(ready, ignore_errors=True)
            raise
    if ready.is_dir():
        _flush_entry(folder)
        with suppress(FileNotFoundError):
            ready.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one move."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Write `content` to `path` in one move; raises OSError, leaving what was there.

    Without `flush` a machine that loses its power may lose the file, which many small ones are faster for.
    """
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_picture(path: Path, picture: "Image.Image") -> None:
    """Write a picture to `path` as PNG in one move, into folders made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        picture.save(aside, "PNG")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_manifest(folder: Path) -> None:
    """Note size and sha256 of every file below `folder` in its manifest.json."""
    entries = {str(path.relative_to(folder)): _entry(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    write_text(folder / MANIFEST, json.dumps(entries, indent=1) + "\n")


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that has a manifest, naming the file; None if it is whole."""
    try:
        expected = json.loads((folder / MANIFEST).read_text())
        if not expected:
            return f"{MANIFEST} is missing or damaged"
        for name, entry in expected.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != entry["bytes"] or _entry(path) != entry:
                return f"{name} is missing or damaged"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or damaged"
    return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one process; the lock ends with the process, however that ends.

    Raises ConfigError if another process holds it. File systems without locks are taken as they are.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another run is at work in {folder}; wait for it or choose another --output_dir"
            ) from None
        except OSError:
            pass
        yield


def _aside(path: Path) -> Path:
    """Where a file is written before it takes the place of `path`; no longer than a name may be."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.new")


def _entry(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _flush(folder: Path) -> None:
    """Bring every file of a folder, and the names of them, to the disk."""
    for path in (*folder.rglob("*"), folder):
        _flush_entry(path)


def _flush_entry(path: Path) -> None:
    with suppress(OSError):  # Windows opens no folder, and some file systems cannot flush one
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
