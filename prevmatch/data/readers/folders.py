"""Photos in one folder and masks of the same names in another, as people make them and as VOC, CVAT and labelme do."""

from collections import defaultdict
from pathlib import Path

from prevmatch.data.colours import meaning_of, read_colours
from prevmatch.data.found import Found
from prevmatch.data.lists import first_five
from prevmatch.data.pairing import pair
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.sources import file_cell, table
from prevmatch.data.texts import find_class_list, read_class_names, read_text
from prevmatch.data.walking import walk
from prevmatch.errors import DataError

IMAGES = ("images", "jpegimages", "image", "imgs", "img", "photos")
MASKS = ("segmentationclasspng", "segmentationclass", "masks", "mask", "annotations", "labels", "label", "gt")


def read(folder: Path) -> Found | None:
    """Pair the files of images/ and masks/, below `folder` or below its parts (train/images, train/masks)."""
    places = {"": folder} | {f"{path.name}/": path for path in sorted(folder.iterdir()) if role_of(path.name)}
    roots = [(prefix, images_below(place), _masks_below(place)) for prefix, place in places.items()]
    roots = [(prefix, images, masks) for prefix, images, masks in roots if images and masks]
    if not roots:
        return None
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    notes: list[str] = []
    for prefix, image_root, mask_root in roots:
        for root, files in ((image_root, images), (mask_root, masks)):
            assert root is not None
            walked = walk(root)
            notes += walked.notes()
            named = [(prefix + path.relative_to(root).with_suffix("").as_posix(), path) for path in walked.files]
            last = dict(named)
            if double := [path.name for name, path in named if last[name] != path]:
                raise DataError(
                    f"{root} has files that share a name up to the suffix: {first_five(double)}; keep one of each"
                )
            files.update(last)
    for kind, files, root in (("images", images, roots[0][1]), ("masks", masks, roots[0][2])):
        if not files:
            raise DataError(f"{root} holds no images; put the {kind} there{'; '.join(['', *notes])}")
    pairs = pair(images, masks, where=str(folder))
    if not pairs.mask_of:
        raise DataError(
            f"no mask in {roots[0][2]} bears the name of an image: {masks[pairs.orphans[0]].name} for one, while "
            f"images are named like {next(iter(images.values())).name}; name them alike up to the suffix"
        )
    notes += pairs.notes
    if pairs.orphans:
        notes.append(f"{len(pairs.orphans)} masks have no image and are left out: {first_five(pairs.orphans)}")
    listed, told = _listed(folder, list(images))
    parts: dict[str, list[str]] = defaultdict(list)
    for name in images:
        parts[listed.get(name) or part_in(name)].append(name)
    return Found(
        parts={
            part: table(
                names,
                [file_cell(images[name]) for name in names],
                [file_cell(masks[pairs.mask_of[name]]) if name in pairs.mask_of else None for name in names],
            )
            for part, names in parts.items()
        },
        notes=notes + told,
        **_classes(folder, f"{roots[0][1].name}/ and {roots[0][2].name}/"),  # type: ignore[union-attr]
    )


def _classes(folder: Path, layout: str) -> dict:
    """What the files beside the folders say about classes."""
    if (folder / "labelmap.txt").is_file():
        names, palette, colours = meaning_of(read_colours(folder / "labelmap.txt"))
        return {"class_names": names, "palette": palette, "colours": colours, "layout": f"{layout} with labelmap.txt"}
    if listed := find_class_list(folder):
        return {"class_names": read_class_names(listed), "layout": f"{layout} with {listed.name}"}
    return {"layout": layout}


def _listed(folder: Path, names: list[str]) -> tuple[dict[str, str], list[str]]:
    """The part of each image that VOC's lists put into one, and what to tell."""
    parts: dict[str, str] = {}
    notes, known = [], set(names)
    for path in sorted((folder / "ImageSets" / "Segmentation").glob("*.txt")):
        if role_of(path.stem) is None:
            continue  # CVAT's default.txt, VOC's trainval.txt: no part
        for name in filter(None, (line.strip() for line in read_text(path, what="list").splitlines())):
            if name not in known:
                notes.append(f"{path.name} of ImageSets lists {name!r}, which is no image")
            elif parts.setdefault(name, path.stem) != path.stem:
                raise DataError(f"ImageSets/Segmentation puts {name!r} into {parts[name]} and {path.stem}; keep one")
    return parts, notes[:5]


def images_below(folder: Path) -> Path | None:
    """The folder of photos in a folder, by its name, or None."""
    return _child(folder, IMAGES)


def _masks_below(folder: Path) -> Path | None:
    found = _child(folder, MASKS)
    sure = found and found.name.lower() in MASKS[:3]
    return found if found and (sure or walk(found).files) else None  # others may hold text files


def _child(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The sub-folder that bears the first of the names."""
    there = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else {}
    return next((there[name] for name in names if name in there), None)
