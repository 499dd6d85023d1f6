"""Lists beside the photos that say which are labelled: labeled.txt, unlabeled.txt."""

from dataclasses import replace
from pathlib import Path

import datasets

from prevmatch.data.found import Found
from prevmatch.data.lists import first_five
from prevmatch.data.part_lists import by_spelling, files_of_lists, meant
from prevmatch.data.parts import role_of
from prevmatch.data.readers.folders import LABELLED, UNLABELLED
from prevmatch.data.sources import table
from prevmatch.data.splits import has_mask
from prevmatch.data.texts import read_text


def unlabel(folder: Path, found: Found) -> Found:
    """The same photos, without the masks of those that an `unlabeled.txt` in the folder lists, and of those to learn
    from that a `labeled.txt` does not; what was done is noted."""
    paths = [path for path in files_of_lists(folder, ()) if path.suffix.lower() in (".txt", ".lst", ".csv")]
    paths = [path for path in paths if LABELLED.fullmatch(path.stem) or UNLABELLED.fullmatch(path.stem)]
    if not paths:
        return found
    spelled = by_spelling([name for rows in found.parts.values() for name in rows["id"]])
    lists: tuple[dict[str, set[str]], dict[str, set[str]]] = ({}, {})
    notes = list(found.notes)
    for path in paths:
        for names, kind in zip(lists, (LABELLED, UNLABELLED), strict=True):
            if kind.fullmatch(path.stem):
                lines = read_text(path, what="list").splitlines()
                if listed := {name for line in lines if (name := meant(line, spelled))}:
                    names[path.name] = listed
                else:
                    notes.append(f"{path.name} is not followed: it names no image that is here")
    if not any(lists):
        return replace(found, notes=notes)
    if differing := next((first_five([*names]) for names in lists if len({*map(frozenset, names.values())}) > 1), ""):
        notes.append(f"{differing} name different photos and are not followed; --split or --labelled draws some")
        return replace(found, notes=notes)
    kept, bare = (next(iter(names.values()), set()) for names in lists)
    parts = {}
    for part, rows in found.parts.items():
        to_learn_from = role_of(part) in (None, "train")
        parts[part] = rows = _without(rows, bare | ({*rows["id"]} - kept if kept and to_learn_from else set()))
    before, after = (sum(sum(has_mask(rows)) for rows in each.values()) for each in (found.parts, parts))
    if before > after:
        told = " and ".join(name for names in lists for name in names)
        notes.append(f"{told}: the masks of {before - after} photos are not used; --split all uses them")
    return replace(found, parts=parts, notes=notes)


def _without(rows: datasets.Dataset, names: set[str]) -> datasets.Dataset:
    """Rows without the masks of those of these names."""
    masks = [None if name in names else mask for name, mask in zip(rows["id"], rows["mask"], strict=True)]
    return table(rows["id"][:], rows["image"][:], masks)
