"""A folder for each photo, with a folder of masks beside that of the photo, one for each object in it."""

import re
from collections import Counter
from pathlib import Path

from prevmatch.data.found import Found, in_parts
from prevmatch.data.joining import joined
from prevmatch.data.lists import first_five
from prevmatch.data.pairing import ADDED
from prevmatch.data.parts import part_in_words
from prevmatch.data.readers.folders import IMAGES, MASKS, classes_beside
from prevmatch.data.walking import walk
from prevmatch.errors import DataError
from prevmatch.progress import progress


def read(folder: Path) -> Found | None:
    """Join the masks of each photo, as in the nuclei of the Data Science Bowl 2018: ID/images/ID.png, ID/masks/*.png.

    A folder without masks has an unlabelled photo. Raises DataError for masks that are not of single objects, or are
    called alike in several folders, as those of classes are.
    """
    walked = walk(folder)
    photos, masks = dict[Path, list[Path]](), dict[Path, list[Path]]()
    for path in walked.files:
        for called, kind in ((IMAGES, photos), (MASKS, masks)):
            if path.parent.name.lower() in called:
                kind.setdefault(path.parent.parent, []).append(path)
    if len(masks) < 2 or any(len(photos.get(place, ())) != 1 for place in (*photos, *masks)):
        return None
    if all(len(files) == 1 for files in masks.values()):
        return None
    words = Counter(word for files in masks.values() for word in {*map(_word, files)} - {""})
    if alike := [word for word, count in words.items() if count > 1]:
        raise DataError(
            f"{folder} has photos with several masks called {first_five(alike)}, as of classes; join those of a photo "
            "into one mask of class ids"
        )
    cells = {}
    for place, files in progress(masks.items(), desc="join masks", unit="photo", leave=False, delay=2):
        if (cell := joined(files)) is None:
            raise DataError(
                f"{files[0].parent} has {len(files)} masks that are not of single objects, 0 and one value without "
                "overlap; join them into one mask of class ids"
            )
        cells[place] = cell
    names = {place: place.relative_to(folder).as_posix() for place in photos}
    return Found(
        parts=in_parts(
            {name: photos[place][0] for place, name in names.items()},
            {names[place]: cell for place, cell in cells.items()},
            part_in_words,
        ),
        notes=[*walked.notes(), f"the masks of {len(masks)} photos, one for each object, are joined into one each"],
        **classes_beside(folder, "images/ and masks/ in a folder for each photo"),
    )


def _word(mask: Path) -> str:
    """What a mask's name says besides a number and that it is a mask."""
    return re.sub(ADDED, "", re.sub(r"[\W\d_]+$", "", mask.stem), flags=re.IGNORECASE)
