"""Photos and masks in folders of any names whose files correspond; which are masks is told by what is in them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from prevmatch.data.found import Found, in_parts
from prevmatch.data.lists import first_five
from prevmatch.data.masks import is_flat, stored_mask
from prevmatch.data.paired import pair_files
from prevmatch.data.pairing import unpadded
from prevmatch.data.parts import ROLES, part_in_words
from prevmatch.data.readers.folders import UNLABELLED, classes_beside
from prevmatch.data.sources import file_cell
from prevmatch.data.walking import walk
from prevmatch.errors import DataError


@dataclass(frozen=True, eq=False)
class Place:
    """A folder and the images in it."""

    path: Path
    shown: str
    """Its path below the folder of the data."""
    files: tuple[Path, ...]

    @cached_property
    def keys(self) -> frozenset[str]:
        """What the names of photos and of their masks have in common."""
        return frozenset(unpadded(path.stem).casefold() for path in self.files)

    @cached_property
    def kind(self) -> str:
        """`photos`, `grey masks` or `coloured masks`, where three of its files are of one kind."""
        kinds = {_kind(self.files[i]) for i in {0, len(self.files) // 2, len(self.files) - 1}}
        return kinds.pop() if len(kinds) == 1 else ""

    @property
    def part(self) -> str:
        """The word for a part in its path."""
        return part_in_words(self.shown)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names in its path without words for parts and numbers, which other parts of the same kind share."""
        return tuple(
            " ".join(word for word in re.split(r"[\W\d_]+", name.lower()) if word and word not in ROLES)
            for name in self.shown.split("/")
        )

    def named(self, beside: "Place | None" = None) -> dict[str, Path]:
        """Its files by their paths without suffix, as if they were in another folder."""
        return {f"{(beside or self).shown}/{path.stem}": path for path in self.files}


def read(folder: Path) -> Found | None:
    """Pair each folder of masks below `folder` with the nearest folder of photos that has their names.

    Where photos have masks as ids and in colours, the ids count. Folders called like those of photos with masks (in a
    part without any), or unlabelled, have unlabelled photos. Raises DataError where several folders could be meant.
    """
    walked = walk(folder)
    places = _places(folder, walked.files)
    masks_of = defaultdict(list)
    for masks, fitting in _corresponding(places):
        if masks.kind.endswith("masks") and (photos := _nearest(masks, fitting)):
            masks_of[photos].append(masks)
    pairs = {photos: _one(photos, masks) for photos, masks in masks_of.items()}
    if not pairs:
        return None
    kinds = {_apart(photos, masks) for photos, masks in pairs.items()}
    if len(kinds) > 1 or len({photos.part != "" for photos in pairs}) > 1:
        raise DataError(
            f"{folder} has photos with masks in {_listed(pairs)}, as of several data sets; name one folder"
        )
    used, (of_photos, _) = {*pairs, *pairs.values()}, kinds.pop()
    bare = [
        place for place in places
        if place not in used
        and (UNLABELLED.fullmatch(place.path.name) or (_within(of_photos, place.names) and place.kind == "photos"))
    ]  # fmt: skip
    for place in (*used, *bare):
        if len(place.named()) < len(place.files):
            raise DataError(f"{place.path} has files that share a name up to the suffix; keep one of each")
    images = {name: path for place in (*pairs, *bare) for name, path in place.named().items()}
    files = {name: path for photos, masks in pairs.items() for name, path in masks.named(photos).items()}
    paired = pair_files(images, files, where=str(folder))
    notes = paired.notes
    parts = {place.shown: place.part for place in (*pairs, *bare)}
    notes.insert(0, f"taken for masks by what is in them, few values in large areas: {_listed(pairs.values())}")
    first = min(pairs, key=lambda photos: ROLES.get(photos.part.lower()) != "train")
    for place in (place for place in places if place not in used and place not in bare):
        notes.append(
            f"{place.shown}/ has {len(place.files)} images that are not used; photos to learn from belong into "
            f"{first.shown}/ or unlabelled/"
        )
    return Found(
        parts=in_parts(paired.images, paired.masks, lambda name: parts[name.rpartition("/")[0]]),
        notes=walked.notes() + notes,
        **classes_beside(folder, f"{first.shown}/ and {pairs[first].shown}/", *(of.path for of in pairs.values())),
    )


def _places(folder: Path, files: Iterable[Path]) -> list[Place]:
    inside = defaultdict(list)
    for path in files:
        inside[path.parent].append(path)
    return [Place(path, path.relative_to(folder).as_posix(), tuple(files)) for path, files in inside.items()]


def _corresponding(places: Sequence[Place]) -> Iterator[tuple[Place, list[Place]]]:
    """Each place with the others that have half of its names, where there are any."""
    having = defaultdict(list)
    for place in places:
        for key in place.keys:
            having[key].append(place)
    for place in places:
        shared = Counter(other for key in place.keys for other in having[key] if other is not place)
        if fitting := [other for other, count in shared.items() if 2 * count >= len(place.keys)]:
            yield place, fitting


def _nearest(masks: Place, fitting: Iterable[Place]) -> Place | None:
    """The folder of photos, of the same part if it says one, whose path is the most like that of the masks."""
    photos = [place for place in fitting if place.kind == "photos" and place.part == (masks.part or place.part)]
    likeness = {place: sum(_shared(place.path.parts, masks.path.parts)) for place in photos}
    nearest = [place for place in photos if likeness[place] == max(likeness.values())]
    if len(nearest) > 1:
        raise DataError(
            f"{masks.path} could have the masks of {_listed(nearest)}; name one folder, or use --mask_path"
        )
    return nearest[0] if nearest else None


def _shared(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """With how many names two paths begin alike, and with how many the rests of them end alike."""
    begin = _alike(one, other)
    return begin, _alike(one[begin:][::-1], other[begin:][::-1])


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    return len([*takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))])


def _apart(photos: Place, masks: Place) -> tuple[tuple[str, ...], ...]:
    """What differs in the paths of a folder of photos and of its masks: ("images",) and ("masks",)."""
    begin, end = _shared(photos.shown.split("/"), masks.shown.split("/"))
    return tuple(place.names[begin : len(place.names) - end] for place in (photos, masks))


def _within(names: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether names, of which one says something, follow each other in a path."""
    return any(names) and any(path[i : i + len(names)] == names for i in range(len(path)))


def _one(photos: Place, masks: Sequence[Place]) -> Place:
    """The folder of masks that counts."""
    ids = [place for place in masks if place.kind == "grey masks"] or masks
    if len(ids) > 1:
        raise DataError(f"{photos.path} has masks in {_listed(ids)}; leave one of them in the folder")
    return ids[0]


def _listed(places: Iterable[Place]) -> str:
    return first_five([f"{place.shown}/" for place in places])


def _kind(path: Path) -> str:
    """What a file looks like; what cannot be a mask counts as a photo."""
    try:
        stored = stored_mask({"id": path.stem, "mask": file_cell(path)}, blurred=True)
    except DataError:
        return "photos"
    numbers = stored.numbers()
    if numbers is None:
        return "coloured masks" if is_flat(stored.values) else "photos"
    two_valued = ((numbers < 16) | (numbers >= 240)).mean() > 0.9  # as a mask that was saved as JPEG
    return "grey masks" if two_valued or is_flat(numbers) else "photos"
