"""Masks beside their photos in the same folders: x.jpg with x_mask.png (Roboflow's semantic masks) or with x.png."""

import re
from pathlib import Path

from prevmatch.data.found import Found, in_parts
from prevmatch.data.paired import pair_files
from prevmatch.data.pairing import ADDED
from prevmatch.data.pairing import PHOTOS as PHOTO_ADDED
from prevmatch.data.readers.folders import classes_beside
from prevmatch.data.walking import walk
from prevmatch.errors import DataError

PHOTOS = (".jpg", ".jpeg", ".heic", ".webp")


def read(folder: Path) -> Found | None:
    """Pair the photos of a folder, and of those in it, with the files that are named as their masks."""
    walked = walk(folder)
    stems = {path.relative_to(folder).with_suffix("").as_posix() for path in walked.files}
    stems |= {re.sub(PHOTO_ADDED, "", stem, flags=re.IGNORECASE) for stem in stems}
    is_mask = {path for path in walked.files if _photo_of(path.relative_to(folder)) in stems}
    if not is_mask:
        photos = {path.with_suffix("") for path in walked.files if path.suffix.lower() in PHOTOS}
        is_mask = {path for path in walked.files if path.suffix.lower() == ".png" and path.with_suffix("") in photos}
    if not is_mask:
        return None
    keys = {path: path.relative_to(folder).with_suffix("").as_posix() for path in walked.files}
    images = {keys[path]: path for path in walked.files if path not in is_mask}
    if len(images) + len(is_mask) < len(walked.files):
        raise DataError(f"{folder} has photos that share a name up to the suffix; keep one of each")
    masks = {keys[path]: path for path in walked.files if path in is_mask}
    paired = pair_files(images, masks, where=str(folder))
    return Found(
        parts=in_parts(paired.images, paired.masks),
        notes=walked.notes() + paired.notes,
        **classes_beside(folder, "masks beside their photos"),
    )


def _photo_of(mask: Path) -> str | None:
    """The name of the photo that a file is named as the mask of."""
    name = mask.with_suffix("").as_posix()
    bare = re.sub(ADDED, "", name, flags=re.IGNORECASE)
    return bare if bare != name else None
