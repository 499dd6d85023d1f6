"""The one walk through folders of pictures, for training, checking and predicting; what it leaves out is said."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from prevmatch.data.images import AVIF, HEIF
from prevmatch.errors import DataError

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
    ".tga", *AVIF, *HEIF,
)  # fmt: skip
CONVERT = (
    ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".psd", ".svg", ".exr",
)  # fmt: skip
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
REMEDIES = (
    dict.fromkeys(CONVERT, "convert to PNG or JPEG")
    | dict.fromkeys((".heic", ".heif"), "needs pip install 'prevmatch[heic]'")
    | dict.fromkeys(VIDEOS, "save its frames as images, as by ffmpeg -i VIDEO -r 1 images/%05d.jpg")
)
"""Pictures that cannot be read, and what to do about them."""
OF_SYSTEMS = ("__macosx", "@eadir", "$recycle.bin", "#recycle", "lost+found", "thumbs.db", "thumbs", "thumbnails")


@dataclass
class Walk:
    """What lies below a folder."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    """Image files, sorted."""
    left_out: Counter[str] = field(default_factory=Counter)
    """How many files were left out, by what they are."""

    def notes(self) -> list[str]:
        """What was left out, in one line, or nothing."""
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(self.left_out.items()))
        return [f"left out in {self.folder}: {what}"] if what else []


def walk(
    folder: Path,
    *,
    without: Collection[Path] = (),
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    any_name: bool = False,
) -> Walk:
    """Find the image files (or those of other `suffixes`) below a folder, in linked folders too, each folder once.

    Hidden files and folders, those of operating systems and the folders `without` (resolved) are left out, and unless
    `any_name` says that they serve, names that no table takes.
    """
    found, seen = Walk(folder), {folder.resolve(), *folder.resolve().parents}  # a link upwards would find all again
    for place, folders, names in os.walk(folder, followlinks=True):
        here, kept = Path(place), []
        for name in sorted(folders):
            real = (here / name).resolve()
            if is_no_data(name):
                found.left_out[f"in {name}/"] += sum(len(files) for _, _, files in os.walk(here / name))
            elif real in seen:
                found.left_out[f"in {name}/, which links to a folder that was visited"] += 1
            elif real not in without:
                kept.append(name)
                seen.add(real)
        folders[:] = kept
        for path in (here / name for name in names):
            suffix = path.suffix.lower()
            if suffix in suffixes and not is_no_data(path.name):
                if not (any_name or _is_text(str(path))):
                    found.left_out["whose path is no UTF-8 (rename it)"] += 1
                elif path.is_file():
                    found.files.append(path)
                else:
                    found.left_out["pipes or devices" if path.exists() else "broken links"] += 1
            elif suffix in suffixes:
                found.left_out["hidden images"] += 1
            elif suffix in REMEDIES:
                found.left_out[f"x {suffix} ({REMEDIES[suffix]})"] += 1
    found.files.sort()
    return found


def image_files(folder: Path, pattern: str = "") -> list[Path]:
    """The image files below a folder, sorted, or those that match a pattern such as `*/*.png`.

    Raises DataError if there is none.
    """
    if pattern:
        files = sorted(path for path in folder.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES)
        files = [path for path in files if not is_no_data(path.name) and path.is_file()]
    else:
        files = walk(folder).files
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}); check the folder")
    return files


def _is_text(name: str) -> bool:
    """Whether a name has only characters; Python holds other bytes in a form that no table takes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_no_data(name: str) -> bool:
    """Whether a file or folder of that name is hidden or an operating system's."""
    return name.startswith(".") or name.lower() in OF_SYSTEMS
