"""Folders that people and labelling tools make: which reader understands one, and what to say where none does."""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from huggingface_hub import cached_assets_path

from prevmatch.data.found import Found
from prevmatch.data.labelled_lists import unlabel
from prevmatch.data.part_lists import follow
from prevmatch.data.parts import role_of
from prevmatch.data.readers import (
    beside,
    by_content,
    coco,
    cvat,
    folders,
    label_studio,
    labelme,
    listed,
    mvtec,
    objects,
    patterned,
    yolo,
)
from prevmatch.data.readers.folders import IMAGES, MASKS, classes_beside
from prevmatch.data.texts import columns_titled, read_json
from prevmatch.data.walking import IMAGE_SUFFIXES, is_no_data, walk
from prevmatch.errors import DataError
from prevmatch.writing import replace_folder

READERS: tuple[Callable[[Path], Found | None], ...] = (
    mvtec.read, listed.read, folders.read, cvat.read, coco.read, labelme.read, label_studio.read, yolo.read,
    beside.read, objects.read,
)  # fmt: skip
"""Asked in this order: masks that are there go before outlines."""
BOX = re.compile(rb"\s*\d+( [\d.e+-]+){4}\s*(\n|$)")
POLYGON = re.compile(rb"\s*\d+( [\d.e+-]+){6,}\s*(\n|$)")
"""How a text of YOLO begins that has boxes, and one that has polygons."""
OF_TABLES = {
    "region_shape_attributes": "of VGG Image Annotator; export from it as COCO (Annotation > Export as COCO)",
    "encodedpixels": "which holds masks as run lengths; save them as PNG of class ids, named as the photos",
    "rle_mask": "which holds masks as run lengths; save them as PNG of class ids, named as the photos",
    "rle": "which holds masks as run lengths; save them as PNG of class ids, named as the photos",
}
"""Columns of tables that are known but not read."""
HELP = (
    "put all photos into images/ and, for some of them, masks of the same name into masks/; or export from labelme "
    "(its JSON files, or VOC), CVAT (`Segmentation mask`, images included), Roboflow, Label Studio, as COCO JSON or "
    "YOLO segmentation; or say where the mask of a photo lies, as in --mask_path 'truth/{stem}.png'"
)


def find(folder: Path, mask_path: str | None = None, *, every_mask: bool = False) -> Found:
    """Recognise the layout of a folder, or of a zip file, and list its images and masks.

    `mask_path` says instead where the mask of each photo lies; `every_mask` leaves lists of labelled photos alone.
    Raises DataError, with what the folder looks like and should look like, if it is none of the known ones.
    """
    if zipfile.is_zipfile(folder):
        folder = _unpacked(folder)
    if not folder.is_dir():
        what = "is a file; unpack it, or name the folder" if folder.exists() else f"does not exist; {HELP}"
        raise DataError(f"data_dir {folder} {what}")
    if mask_path is not None:
        followed = follow(folder, patterned.read(folder, mask_path))
        return followed if every_mask else unlabel(folder, followed)
    inside = opened = shown = folder
    above: list[Path] = []
    for _ in range(6):
        if len(zips := _zips(inside)) == 1 and not walk(inside).files:
            above.append(inside)
            inside, shown = _unpacked(zips[0]), zips[0]
            opened = inside
            continue
        if wrapped := _wrapped(inside):
            above.append(inside)
            inside = wrapped
            continue
        read, found = next(((read, found) for read in READERS if (found := read(inside))), (by_content.read, None))
        below = [] if found else [path for path in _folders(inside) if walk(path).files]
        if len(below) > 1:
            found = by_content.read(inside)
        if found:
            found.notes[:0] = [f"read from {inside}"] if inside != folder else []
            found.notes += [] if read is listed.read else listed.passed_over(inside)
            followed = follow(inside, _named_above(found, above), *above)
            return followed if every_mask else unlabel(inside, followed)
        if len(below) != 1:
            break
        above.append(inside)
        inside = below[0]
    raise DataError(_refusal(opened, shown))


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_no_data(path.name)]


def _wrapped(folder: Path) -> Path | None:
    """The only folder in a folder that has nothing else to read, if its name says nothing either."""
    below = _folders(folder)
    if len(below) != 1 or role_of(below[0].name) or below[0].name.lower() in (*IMAGES, *MASKS):
        return None
    telling = (*IMAGE_SUFFIXES, ".json", ".jsonl", ".xml", ".csv", ".tsv", ".yaml", ".yml", ".zip")
    files = (path for path in folder.iterdir() if not path.is_dir() and not is_no_data(path.name))
    return None if any(path.suffix.lower() in telling for path in files) else below[0]


def _named_above(found: Found, above: list[Path]) -> Found:
    """With the classes that a list above the folder of the data names, where that names none itself."""
    if found.class_names or found.colours or not above:
        return found
    return replace(found, **classes_beside(above[-1], found.layout, *above[-2::-1]))


def _zips(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)]


def _unpacked(path: Path) -> Path:
    """The content of a zip file, unpacked once into the cache."""
    stat = path.stat()
    place = cached_assets_path(
        "prevmatch", namespace="unpacked", subfolder=f"{path.stem}-{stat.st_size}-{stat.st_mtime_ns}"
    )
    if not (place.is_dir() and any(place.iterdir())):
        with zipfile.ZipFile(path) as archive, replace_folder(place) as aside:
            try:
                archive.extractall(aside)  # which keeps every file below it
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
                raise DataError(f"{path} cannot be unpacked ({error}); unpack it and name the folder") from error
    return place


def _refusal(folder: Path, shown: Path) -> str:
    """What a folder looks like that no reader understands, and what to do; the user knows it as `shown`."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    suffixes = {"".join(path.suffixes[-2:]).lower() for path in files} | {path.suffix.lower() for path in files}
    if "meta.json" in names and any(path.parent.name == "ann" for path in files):
        return f"{shown} is a Supervisely project; export it as COCO or as masks and name that folder"
    if any(re.match(r"task-\d+-annotation-\d+-by-", name) for name in names):
        return (
            f"{shown} has brush masks of Label Studio, one file for each label and task, which do not say which "
            "photo they belong to; export as JSON or COCO and put the images beside it"
        )
    if told := next(filter(None, (_of_json(path) for path in files if path.suffix == ".json")), None):
        return f"{shown} {told}"
    for path in (path for path in files if path.suffix.lower() == ".csv"):
        for title, whose in OF_TABLES.items():
            if columns_titled(path, ((title,),)):
                return f"{shown} has {path.name}, {whose}"
    if {".geojson", ".ndjson"} & suffixes:
        return f"{shown} has outlines as GeoJSON or NDJSON (QuPath, Labelbox); export masks, or COCO"
    if {".nii", ".nii.gz", ".dcm", ".nrrd", ".mhd"} & suffixes:
        return f"{shown} has medical volumes; save their slices as PNG, photos in images/ and masks in masks/"
    if {".parquet", ".arrow"} & suffixes:
        return f"{shown} has tables of a data set; name it with --dataset_name instead, and its columns if need be"
    if ".tfrecord" in suffixes or ".mat" in suffixes or ".npy" in suffixes or ".npz" in suffixes:
        return f"{shown} has arrays or records (.tfrecord, .mat, .npy); save the masks as PNG of class ids; {HELP}"
    images = {path.with_suffix("") for path in walk(folder).files}
    texts = [path for path in files if path.suffix == ".txt"]
    beside = [path for path in texts if path.with_suffix("") in images]
    if any(path.parent.name == "labelTxt" for path in texts) or any(_begins(path, BOX) for path in beside):
        return (
            f"{shown} has boxes of YOLO or DOTA, a text for each image, which say too little for segmentation; "
            "export polygons (YOLO segmentation: images in images/, texts in labels/)"
        )
    if any(_begins(path, POLYGON) for path in (*beside, *folder.glob("label*/*.txt"))):
        return f"{shown} has texts of YOLO segmentation; put the images into images/ and the texts into labels/"
    if any(path.suffix == ".xml" and b"<pt>" in path.read_bytes() for path in files):
        return f"{shown} has polygons in the XML of LabelMe 3.0; export as `CVAT for images 1.1` or COCO"
    if any(path.suffix == ".xml" and b"<Vertex" in path.read_bytes() for path in files):
        return f"{shown} has outlines in the XML of Aperio ImageScope (MoNuSeg); draw them as masks, PNG of class ids"
    if ".xml" in suffixes:
        return (
            f"{shown} has XML files, as of boxes in Pascal VOC's form, which say too little for segmentation; export "
            "polygons or masks"
        )
    if any(folder.glob("SegmentationClass*/*.png")):
        return f"{shown} has masks but no JPEGImages; export again with the images included"
    photos = len(walk(folder).files)
    if not photos and (zips := _zips(folder)):
        return f"{shown} has {len(zips)} zip files; unpack them, photos into images/ and masks into masks/"
    if not photos:
        return f"{shown} holds no images; {HELP}"
    missing = [f"{name}/" for name in ("images", "masks") if not (folder / name).is_dir()] or ["masks"]
    called = [f"--mask_path '{{folder}}/{{stem}}{added}'" for added in _added_to_names(walk(folder).files)]
    what = f"if {' or '.join(called)} says which are masks, add it; else {HELP}" if called else HELP
    return f"{shown} has {photos} images but lacks {' and '.join(missing)}: {what}"


def _added_to_names(files: Iterable[Path]) -> list[str]:
    """What the names of files add to those of half of the others in their folders, as masks do: `_leaf.png`."""
    stems = {path.with_suffix("") for path in files}
    added = Counter(
        path.stem[cut:] + path.suffix
        for path in files
        for cut in range(1, len(path.stem))
        if re.match(r"([_\-. ]+\w*)?[^\W\d_]", path.stem[cut:]) and path.with_name(path.stem[:cut]) in stems
    )
    return [name for name, count in added.most_common(2) if count > 1 and 3 * count >= len(stems)]


def _begins(path: Path, pattern: re.Pattern[bytes]) -> bool:
    with path.open("rb") as file:
        return pattern.match(file.read(4096)) is not None


def _of_json(path: Path) -> str | None:
    """Whose a JSON file is, of those that are known but not read, and what to do."""
    try:
        content = read_json(path)
    except DataError:
        return None
    if not isinstance(content, dict):
        return None
    if "_via_img_metadata" in content or any(isinstance(v, dict) and "regions" in v for v in content.values()):
        return "is of VGG Image Annotator; export from it as COCO (Annotation > Export as COCO)"
    if "dm_format_version" in content:
        return "is of Datumaro's own form; export as COCO, with the images"
    if "instances" in content and "metadata" in content:
        return "is of SuperAnnotate; export as COCO, with the images"
    if "annotations" in content and ("item" in content or "dataset" in content):
        return "is of V7 Darwin; export as COCO or as semantic masks, with the images"
    if "export_format_version" in content:
        return "is of Hasty; export as COCO or as semantic masks, with the images"
    if content.keys() == {"image", "annotations"}:
        return "has outlines in the form of Segment Anything, which name no classes; name them in a labelling tool"
    return None
