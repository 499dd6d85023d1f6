"""Folders that people and labelling tools make: what lies where, and what they say about classes."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import datasets

from prevmatch.data.colours import read_colours
from prevmatch.data.images import image_files
from prevmatch.data.instances import read_annotations
from prevmatch.data.lists import first_five
from prevmatch.data.palettes import voc_colours
from prevmatch.data.sources import RGB, table
from prevmatch.errors import DataError

IGNORED_NAMES = ("ignore", "__ignore__", "void")
HELP = (
    "put all photos into images/ and, for some of them, masks of the same name into masks/; or export from labelme "
    "(JPEGImages, SegmentationClass, class_names.txt), CVAT (`Segmentation mask`, images included) or as COCO JSON"
)


@dataclass(kw_only=True)
class Found:
    """What a folder holds; empty names mean that the masks must tell."""

    pool: datasets.Dataset
    """Every image that is not for validation; those without a mask are unlabelled."""
    val: datasets.Dataset | None = None
    """The validation images, where the folder sets them apart."""
    class_names: tuple[str, ...] = ()
    palette: tuple[RGB, ...] = ()
    colours: tuple[tuple[RGB, int], ...] = ()
    annotated: bool = False
    """Whether masks are COCO annotations, which hold class ids by themselves."""
    layout: str = ""
    notes: list[str] = field(default_factory=list)


def find(folder: Path) -> Found:
    """Recognise the layout of a folder and list its images and masks.

    Raises DataError, with what the folder should look like, if it is none of the known ones.
    """
    if not folder.is_dir():
        raise DataError(f"data_dir {folder} does not exist; {HELP}")
    masks = [name for name in ("SegmentationClassPNG", "SegmentationClass") if any(folder.glob(f"{name}/*.png"))]
    if masks:
        return _voc(folder, folder / masks[0])
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        return _images_and_masks(folder)
    files = [*folder.glob("*.json"), *folder.glob("annotations/*.json")]
    if len(files) == 1:
        return _coco(folder, files[0])
    if files:
        raise DataError(f"{folder} has {len(files)} JSON files, {files[0].name} and {files[1].name} for two; keep one")
    missing = [name for name in ("images", "masks") if not (folder / name).is_dir()]
    raise DataError(f"{folder} lacks {' and '.join(f'{name}/' for name in missing)}: {HELP}")


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names, one a line in the order of their ids; labelme's `__ignore__` in the first line is no class."""
    try:
        names = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"class list {path} cannot be read ({error})") from error
    names = names[1:] if names[:1] == ["__ignore__"] else names
    while names and not names[-1]:
        names.pop()
    wrong = [name for i, name in enumerate(names) if not name or name in names[:i]]
    if wrong or not 1 <= len(names) <= 255:
        raise DataError(f"class list {path} needs 1 to 255 different names, one a line; it has {wrong or 'none'}")
    return tuple(names)


def meaning_of(classes: dict[str, RGB]) -> tuple[tuple[str, ...], tuple[RGB, ...], tuple[tuple[RGB, int], ...]]:
    """Names, palette and class id of each colour, from names with colours; one named `ignore` or `void` is ignored."""
    names = tuple(name for name in classes if name.lower() not in IGNORED_NAMES)
    ids = {name: names.index(name) if name in names else 255 for name in classes}
    return names, tuple(classes[name] for name in names), tuple((c, ids[name]) for name, c in classes.items())


def _images_and_masks(folder: Path) -> Found:
    found = _matched(folder, folder / "images", folder / "masks")
    if (folder / "classes.txt").is_file():
        found.class_names = read_class_names(folder / "classes.txt")
    found.layout = "images/ and masks/"
    return found


def _voc(folder: Path, masks: Path) -> Found:
    images = next((folder / name for name in ("JPEGImages", "images") if (folder / name).is_dir()), None)
    if images is None:
        raise DataError(f"{folder} has {masks.name} but no JPEGImages; export again with the images included")
    found = _matched(folder, images, masks)
    found.layout = f"{images.name}/ and {masks.name}/"
    if (folder / "labelmap.txt").is_file():
        found.class_names, found.palette, found.colours = meaning_of(read_colours(folder / "labelmap.txt"))
        found.layout += " with labelmap.txt"
    elif (folder / "class_names.txt").is_file():
        found.class_names = read_class_names(folder / "class_names.txt")
        found.layout += " with class_names.txt"
    return found


def _coco(folder: Path, annotations: Path) -> Found:
    names, cells = read_annotations(annotations)
    places = [folder / name for name in ("images", "JPEGImages")] + [folder]
    images = image_files(next(place for place in places if place.is_dir()))
    by_name = {Path(name).name: cell for name, cell in cells.items()}
    unknown = sorted(set(by_name) - {path.name for path in images})
    notes = [f"{len(unknown)} images of {annotations.name} are missing: {first_five(unknown)}"] if unknown else []
    pool = table(
        [path.stem for path in images],
        [{"path": str(path), "bytes": None} for path in images],
        [by_name.get(path.name) for path in images],
    )
    palette = voc_colours(len(names))
    layout = f"COCO JSON {annotations.name}; an image without annotations is unlabelled"
    return Found(pool=pool, class_names=names, palette=palette, annotated=True, layout=layout, notes=notes)


def _matched(folder: Path, images: Path, masks: Path) -> Found:
    """Pair the files of two folders by their names; images/val with masks/val are for validation."""
    image_of, mask_of = ({_name(path, root): path for path in image_files(root)} for root in (images, masks))
    double = [path.name for path in image_files(images) if path not in set(image_of.values())]
    if double:
        raise DataError(f"{images} has images that share a name up to the suffix: {first_five(double)}; rename one")
    lonely = sorted(set(mask_of) - set(image_of))
    if len(lonely) == len(mask_of):
        raise DataError(
            f"no mask in {masks} bears the name of an image: {mask_of[lonely[0]].name} for one, while images are "
            f"named like {next(iter(image_of.values())).name}; name them alike up to the suffix"
        )
    apart = (images / "val").is_dir() and (masks / "val").is_dir()
    parts: dict[bool, list[str]] = {False: [], True: []}
    for name in image_of:
        parts[apart and re.match(r"val/", name) is not None].append(name)
    tables = {
        part: table(
            names,
            [{"path": str(image_of[name]), "bytes": None} for name in names],
            [{"path": str(mask_of[name]), "bytes": None} if name in mask_of else None for name in names],
        )
        for part, names in parts.items()
    }
    notes = [f"{len(lonely)} masks have no image and are left out: {first_five(lonely)}"] if lonely else []
    return Found(pool=tables[False], val=tables[True] if apart else None, notes=notes)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()
