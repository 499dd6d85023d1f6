"""Text files of YOLO segmentation: images/ and labels/, whole or in parts, as Ultralytics and Roboflow have them."""

import os.path
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.images import upright_size
from prevmatch.data.instances import area_of, rectangles_note
from prevmatch.data.lists import first_five
from prevmatch.data.outlines import Outline, box, boxes_note, cell, class_ids, polygon, require_outlines
from prevmatch.data.pairing import before_upload
from prevmatch.data.palettes import voc_colours
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.photos import Name, find_photos
from prevmatch.data.texts import CLASS_LISTS, find_class_list, read_class_names, read_text
from prevmatch.data.walking import walk
from prevmatch.errors import DataError


def read(folder: Path) -> Found | None:
    """Read labels/x.txt for images/x.jpg; without one, or where it is empty, the image is unlabelled.

    Tools write an empty text for each photo that nobody has looked at yet, and training would learn that it shows
    nothing. The parts are those of data.yaml, if it says any, else those that folders are called by.
    """
    walked = walk(folder)
    texts, orphans = _texts([path for path in walked.files if "images" in [part.lower() for part in path.parts]])
    if not texts:
        return None
    among = (find_class_list(place) for place in sorted({text.parent for text in texts.values()}))
    listed = find_class_list(folder) or _yaml(folder) or next(filter(None, among), None)
    lines = {path: _lines(text) for path, text in texts.items()}
    most = max((label for shapes in lines.values() for label, _, _ in shapes), default=-1)
    given = read_class_names(listed) if listed else tuple(f"class_{i}" for i in range(most + 1))
    if most >= len(given):
        raise DataError(f"{folder} has objects of class {most}, but {listed} names {len(given)} classes; complete it")
    names, ids = class_ids(given)
    boxes = sum(is_box for shapes in lines.values() for _, _, is_box in shapes)
    require_outlines(folder, boxes, sum(map(len, lines.values())))
    outlines = [shape for shapes in lines.values() for _, shape, is_box in shapes if not is_box]
    images = named(folder, walked.files)
    part_of, missing = _parts(folder, images)
    notes = walked.notes() + boxes_note(boxes) + rectangles_note(outlines) + missing
    if empty := sum(not shapes for shapes in lines.values()):
        notes.append(
            f"{empty} of {len(lines)} texts are empty: their images count as unlabelled, not as without objects"
        )
    if orphans:
        notes.append(f"{len(orphans)} texts have no image and are left out: {first_five(orphans)}")
    masks = {}
    for name, path in images.items():
        if lines.get(path):
            size = upright_size(path)
            # The smaller one is in front, as in Ultralytics' own masks; what is ignored lies below.
            shapes = sorted(lines[path], key=lambda shape: (not shape[2], -area_of(shape[1])))
            masks[name] = cell(
                size,
                [(IGNORE_INDEX if b else ids[given[label]], _scaled(o, size)) for label, o, b in shapes],
                texts[path],
            )
    return Found(
        parts=in_parts(images, masks, lambda name: _part(part_in(name), part_of.get(name))),
        class_names=names,
        palette=voc_colours(len(names)),
        annotated=True,
        layout=f"YOLO segmentation, {len(texts)} text files" + (f", {listed.name}" if listed else ""),
        notes=notes,
    )


def _texts(images: list[Path]) -> tuple[dict[Path, Path], list[str]]:
    """The text of each image that has one, by its name or by that before it was uploaded, and the texts without any.

    Raises DataError for an image with several texts.
    """
    text_of = _places_of_texts(images)
    there = {
        _composed(text): text for folder in {text.parent for text in text_of.values()} for text in folder.glob("*.txt")
    }
    wanted = {path: _composed(text) for path, text in text_of.items()}
    texts = {path: there[text] for path, text in wanted.items() if text in there}
    uploaded = defaultdict(list)
    for text in sorted(there.keys() - set(wanted.values())):
        uploaded[text.parent, before_upload(text.stem)].append(there[text])
    for path in wanted.keys() - texts.keys():
        same = uploaded[wanted[path].parent, wanted[path].stem.casefold()]
        if len(same) > 1:
            raise DataError(f"{path} has {len(same)} texts, {same[0].name} and {same[1].name} for two; keep one")
        if same:
            texts[path] = same[0]
    return texts, sorted(text.name for text in set(there.values()) - set(texts.values()))


def _places_of_texts(images: list[Path]) -> dict[Path, Path]:
    """Where the text of each image belongs: its path, but below labels/, however written, not the last images/."""
    labels: dict[Path, str] = {}
    places = {}
    for image in images:
        parts = image.with_suffix(".txt").parts
        last = max(i for i, part in enumerate(parts) if part.lower() == "images")
        above = Path(*parts[:last])
        if above not in labels:
            folders = [path for path in sorted(above.iterdir()) if path.name.lower() == "labels" and path.is_dir()]
            labels[above] = next((path.name for path in folders if any(path.iterdir())), "labels")
        places[image] = Path(above, labels[above], *parts[last + 1 :])
    return places


def _composed(path: Path) -> Path:
    return Path(unicodedata.normalize("NFC", str(path)))


def _parts(folder: Path, images: Mapping[str, Path]) -> tuple[dict[str, str], list[str]]:
    """The part that data.yaml puts each image into, by folders or lists, and what to tell of those that are not there.

    Raises DataError for an image in two parts.
    """
    import yaml

    file = _yaml(folder)
    if file is None:
        return {}, []
    try:
        content = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise DataError(f"{file} is no YAML ({str(error).splitlines()[0]}); correct it") from error
    if isinstance(content, dict) and content.get("kpt_shape"):
        raise DataError(f"{file} says that the texts hold keypoints, which outline nothing; export YOLO segmentation")
    part_of: dict[str, str] = {}
    notes = []
    for part in ("train", "val", "test") if isinstance(content, dict) else ():
        entries = content.get(part) or []
        for entry in map(str, entries if isinstance(entries, list) else [entries]):
            place = _place(folder, str(content.get("path") or ""), entry)
            if place is None:
                notes.append(f"{file.name} has {entry!r} for {part}, which is not here")
                continue
            if place.is_dir():
                inside = [name for name, path in images.items() if place in path.parents]
            else:
                names = [
                    Name(line.strip(), place.parent.relative_to(folder).as_posix())
                    for line in read_text(place, what="list").splitlines() if line.strip()
                ]  # fmt: skip
                found = find_photos(names, images, folder, place)
                inside = list(found.values())
                if missing := [name.name for name in names if name not in found]:
                    notes.append(f"{len(missing)} images of {place.name} are missing: {first_five(missing)}")
            if double := [name for name in inside if part_of.setdefault(name, part) != part]:
                raise DataError(
                    f"{file} puts {double[0]!r} into {part_of[double[0]]} and {part}; keep one (without val, some "
                    "images are held out)"
                )
    return part_of, notes


def _yaml(folder: Path) -> Path | None:
    """The data.yaml of a folder, or the only YAML with `names` there, whatever it is called."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    usual = [path for path in files if path.name in CLASS_LISTS]
    named = [path for path in files if re.search(r"^names\s*:", read_text(path), re.MULTILINE)]
    return usual[0] if usual else named[0] if len(named) == 1 else None


def _place(folder: Path, root: str, entry: str) -> Path | None:
    """The file or folder below `folder` that an entry of data.yaml means, which may be of another computer."""
    words = [word for word in entry.replace("\\", "/").split("/") if word not in ("", ".", "..")]
    whole = not (entry.startswith("/") or entry[1:2] == ":")
    ends = (folder.joinpath(*words[start:]) for start in range(1 if whole else len(words)))
    places = (folder / os.path.relpath(place, folder) for place in (folder / root / entry, *ends))
    return next((place for place in places if ".." not in place.parts[len(folder.parts) :] and place.exists()), None)


def _part(own: str, said: str | None) -> str:
    """The part that data.yaml says, by the name of its folder where that says the same."""
    return own if said is None or role_of(own) == role_of(said) else said


def _lines(path: Path) -> list[tuple[int, Outline, bool]]:
    """Class, outline in shares of the image's sides, and whether it is only a box, of each line."""
    shapes = []
    for number, line in enumerate(read_text(path, what="YOLO label").splitlines(), 1):
        try:
            label, *values = line.split() or ["", ""]
            if not label:
                continue
            shares = [float(value) for value in values]
            if len(shares) == 4:
                x, y, width, height = shares
                shapes.append((int(label), box(x - width / 2, y - height / 2, x + width / 2, y + height / 2), True))
                continue
            if len(shares) < 6 or len(shares) % 2 or int(label) < 0:
                raise ValueError
        except ValueError:
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is not a class and the corners of a polygon (YOLO segmentation)"
            ) from None
        shapes.append((int(label), polygon(list(zip(shares[::2], shares[1::2], strict=True))), False))
    return shapes


def _scaled(outline: Outline, size: tuple[int, int]) -> Outline:
    assert isinstance(outline, list)
    return [[value * size[i % 2] for i, value in enumerate(part)] for part in outline]
