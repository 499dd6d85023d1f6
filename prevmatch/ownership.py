"""Which files in a user's folder are ours: noted as they are written, so that nothing else is ever overwritten."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from prevmatch.errors import ConfigError
from prevmatch.writing import write_bytes

NOTES = ".prevmatch-files"
"""A line [name, sha256] for every file written into the folder, in the order of writing."""


class OwnFiles:
    """The files that earlier and this command wrote into a folder; one that was changed since is the user's."""

    def __init__(self, folder: Path, *, overwrite: bool = False):
        self.folder, self.overwrite = folder, overwrite
        self.noted: set[tuple[str, str]] = set()
        try:
            lines = (folder / NOTES).read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            try:
                name, digest = json.loads(line)
                if ".." not in Path(name).parts and not Path(name).is_absolute():
                    self.noted.add((name, str(digest)))
            except (ValueError, TypeError, RecursionError):  # torn when a process was killed
                continue

    @property
    def names(self) -> set[str]:
        """The names, relative to the folder, of all that was ever written."""
        return {name for name, _ in self.noted}

    def has(self, path: Path) -> bool:
        """Whether a file was written by us and is as it was."""
        return path.is_file() and (self._name(path), _digest(path.read_bytes())) in self.noted

    def require(self, paths: Iterable[Path]) -> None:
        """Raise ConfigError if one of these paths is there, was not written by us, and is not to be overwritten, or if
        nothing can be written into the folder: before what is to be written has taken its time."""
        there = next(path for path in (self.folder.absolute(), *self.folder.absolute().parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            reason = "cannot be written to" if there.is_dir() else "is a file"
            raise ConfigError(f"output_dir {self.folder}: {there} {reason}; choose another output_dir")
        foreign = [] if self.overwrite else [path for path in paths if path.exists() and not self.has(path)]
        if foreign:
            more = f", like {len(foreign) - 1} more files" if len(foreign) > 1 else ""
            raise ConfigError(
                f"{foreign[0]} is there and was not written by this command, or was changed since{more}; choose "
                "another output_dir, or add --overwrite"
            )

    def require_unchanged(self) -> None:
        """Raise ConfigError if a file that was written by us has been changed since, and is not to be overwritten."""
        self.require(path for name in sorted(self.names) if (path := self.folder / name).exists())

    def clear(self, *, keep: Iterable[Path] = ()) -> None:
        """Remove all files that were written by us and are as they were, but those to `keep`."""
        kept = set(keep)
        for path in (self.folder / name for name in sorted(self.names)):
            if path not in kept and self.has(path):
                path.unlink()

    def write(self, path: Path, content: bytes) -> None:
        """Write a file in one move, into folders made as needed; ConfigError if it cannot be written."""
        entry = (self._name(path), _digest(content))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry not in self.noted:
                with (self.folder / NOTES).open("a") as file:
                    file.write(json.dumps(entry) + "\n")
                self.noted.add(entry)
            write_bytes(path, content, flush=False)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written ({error.strerror or error}); choose another folder"
            ) from error

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
