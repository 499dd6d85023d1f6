"""Which photo a file of annotations means by a path, by an address, or by a name from before or after an upload."""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from prevmatch.data.pairing import before_upload, composed
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.walking import IMAGE_SUFFIXES
from prevmatch.errors import DataError

Words = tuple[str, ...]
SAYING_NOTHING = ("", ".", "..", "images", "image", "jpegimages", "imgs", "img", "photos")
"""Folders that tools put photos into, which do not tell one photo from another."""


class Name(NamedTuple):
    """What a file of annotations calls a photo."""

    name: str
    beside: str = ""
    """The folder that the name counts from, below that of the data."""
    part: str = ""
    """The part that the photo is said to be of."""


def find_photos(names: Iterable[Name], images: Mapping[str, Path], folder: Path, file: Path) -> dict[Name, str]:
    """The ids of the `images` (by id, all below `folder`) that names mean; a name that means none is left out.

    A path goes first. Else the photo's path must end in the name, or the name in the photo's path, of which the
    folders that all photos share are left out as far as no name has them. So a name alone means the only photo of that
    name, but not one in another part, and a name in a folder none in another folder. If two such names mean one
    photo, neither does. Raises DataError, with the `file` the names are from, if several photos could be meant.
    """
    spelled = {name: [*_spellings(name.name)] for name in names}
    paths = {composed(path.relative_to(folder).as_posix()): id_ for id_, path in images.items()}
    found, meant = {}, {}
    for name, spellings in spelled.items():
        roots = (composed(name.beside), ".")
        whole = (posixpath.normpath(f"{root}/{spelling}") for spelling in spellings[:2] for root in roots)
        if path := next(filter(paths.__contains__, whole), None):
            found[name] = paths[path]
    words = {path: _words(path) for path in paths}
    tails = _tails(words, {end for spellings in spelled.values() for said in spellings for end in _ends(said)})
    ends = defaultdict(list)
    for path in paths:
        for end in _ends(path):
            ends[end].append(path)
    for name in (name for name in spelled if name not in found):
        for spelling in spelled[name]:
            fitting = ends.get(_words(spelling)) or next((tails[e] for e in _ends(spelling) if e in tails), [])
            fitting = [path for path in fitting if _may_be(name, path)]
            same = [path for path in fitting if path.endswith(spelling.rpartition("/")[2])] or fitting
            if len(same) > 1:
                raise DataError(
                    f"{file} has {name.name!r}, which could be {same[0]} or {same[1]}; keep one, or name its folder"
                )
            if same:
                meant[name] = paths[same[0]]
                break
    count = Counter([*found.values(), *meant.values()])
    return found | {name: id_ for name, id_ in meant.items() if count[id_] == 1}


def _spellings(name: str) -> Iterator[str]:
    """A name as it is written, as the path in an address, and both without what an upload puts before it."""
    plain = composed(name)
    address = re.sub(r"^.*/upload/\d+/", "", unquote(plain.rpartition("?d=")[2].partition("?")[0]))
    yield from (plain, address)
    for spelling in (plain, address):
        place, slash, last = spelling.rpartition("/")
        if (before := before_upload(last)) != last.casefold():
            yield place + slash + before


def _tails(words: Mapping[str, Words], said: set[Words]) -> dict[Words, list[str]]:
    """Photos by their paths without folders that all share, as many of them as names have (`said`: their ends)."""
    columns = zip(*(split[:-1] for split in words.values()), strict=False)
    shared = len([*takewhile(lambda column: len(set(column)) == 1, columns)])
    tails: dict[Words, list[str]] = {}
    for start in range(shared + 1):
        tails = defaultdict(list)
        for path, split in words.items():
            tails[split[start:]].append(path)
        if not said.isdisjoint(tails):
            break
    return tails


def _may_be(name: Name, path: str) -> bool:
    """Whether the parts that a name is of and that a photo is in are not two."""
    roles = {role_of(name.part), role_of(part_in(path))}
    return len(roles) == 1 or None in roles


def _words(path: str) -> Words:
    """A path in small letters, without the suffix of an image and without folders that say nothing."""
    *folders, last = path.casefold().split("/")
    stem, dot, suffix = last.rpartition(".")
    return (
        *(word for word in folders if word not in SAYING_NOTHING),
        stem if dot + suffix in IMAGE_SUFFIXES else last,
    )


def _ends(path: str) -> Iterator[Words]:
    words = _words(path)
    return (words[i:] for i in range(len(words)))
