"""Files of photos and of masks brought together by their names."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prevmatch.data.joining import joined
from prevmatch.data.lists import first_five
from prevmatch.data.pairing import made_note, made_of, pair, second_masks
from prevmatch.data.sources import file_cell
from prevmatch.errors import DataError


@dataclass(kw_only=True)
class Paired:
    """Photos with their masks."""

    images: dict[str, Path]
    """All photos, by their names."""
    mask_of: dict[str, str]
    """The names of their masks."""
    masks: dict[str, dict] = field(default_factory=dict)
    """The cells of their masks."""
    notes: list[str] = field(default_factory=list)


def pair_files(images: Mapping[str, Path], masks: Mapping[str, Path], *, where: str) -> Paired:
    """Pair files by their names, without images that are pictures made of photos; masks of several objects of a photo
    (a_mask, a_mask_1) become one.

    Raises what `pair` raises, and DataError for a photo with a second mask of the same things.
    """
    pairs = pair(images, masks, where=where)
    files = {**images, **masks}
    cells = {name: file_cell(masks[mask]) for name, mask in pairs.mask_of.items()}
    others = defaultdict(list)
    for name, owner in second_masks([*images, *pairs.orphans], pairs.mask_of).items():
        if files[name].parent == masks[pairs.mask_of[owner]].parent:  # else it is a photo that is called so
            others[owner].append(name)
    for owner, names in others.items():
        whole = joined([masks[pairs.mask_of[owner]], *(files[name] for name in names)])
        if whole is None:
            raise DataError(
                f"{names[0]!r} is named as a mask of {owner!r}, besides {pairs.mask_of[owner]!r}; join them into one "
                "mask of class ids"
            )
        cells[owner] = whole
    objects = {name for names in others.values() for name in names}
    made = made_of({name: path for name, path in images.items() if name not in objects}, pairs.mask_of)
    notes = pairs.notes + made_note(made)
    if others:
        notes.append(f"{len(others)} photos have a mask for each object, joined into one: {first_five([*others])}")
    if orphans := [name for name in pairs.orphans if name not in objects]:
        notes.append(f"{len(orphans)} masks have no image and are left out: {first_five(orphans)}")
    photos = {name: path for name, path in images.items() if name not in objects and name not in made}
    return Paired(images=photos, mask_of=pairs.mask_of, masks=cells, notes=notes)
