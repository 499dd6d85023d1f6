"""COCO JSON: one file, or one for each part; an image without annotations is unlabelled."""

import re
from pathlib import Path

from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.instances import read_annotations
from prevmatch.data.lists import first_five
from prevmatch.data.palettes import voc_colours
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.photos import Name, find_photos
from prevmatch.data.readers.folders import images_below
from prevmatch.data.texts import read_json
from prevmatch.data.walking import walk
from prevmatch.errors import DataError


def read(folder: Path) -> Found | None:
    """Find the images below `folder` that the entries of the JSON files mean, each in the part of its file."""
    patterns = ("*.json", "annotations/*.json", "*/_annotations.coco.json", "*/labels.json")
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if _is_coco(path)})
    if not files:
        return None
    told = {path: _part_of(path, folder) for path in files}
    rivals = [file for file in files if told[file] == "" or list(told.values()).count(told[file]) > 1]
    if len(files) > 1 and rivals:
        two = " and ".join(file.name for file in sorted(files, key=lambda file: (file not in rivals, told[file]))[:2])
        raise DataError(
            f"{folder} has {len(files)} COCO files, {two} for two; keep one, or name each for its part "
            "(instances_train.json, instances_val.json)"
        )
    read = {file: read_annotations(file, stuff=True) for file in files}
    root = images_below(folder) or folder
    pictures = {folder_of for file in files if (folder_of := file.with_suffix("")).is_dir()}  # of panoptic files
    walked = walk(root, without={path.resolve() for path in pictures})
    images = named(root, walked.files)
    notes, names = walked.notes(), read[files[0]].names
    cells: dict[str, dict | None] = {}
    part_of: dict[str, str] = {}
    for file, content in read.items():
        if content.names != names:
            raise DataError(f"{file} has other categories than {files[0]}; export them together")
        notes += content.notes
        beside = file.parent.relative_to(folder).as_posix()
        meant = {entry: Name(entry, beside, told[file]) for entry in content.cells}
        image_of = find_photos(meant.values(), images, folder, file)
        missing = [entry for entry, name in meant.items() if name not in image_of]
        for name, image in image_of.items():
            if image in cells:
                raise DataError(
                    f"{file} has two entries for the image {image}; keep one, or tell them apart by folders"
                )
            cells[image], part_of[image] = content.cells[name.name], told[file]
        if missing and len(missing) == len(content.cells):
            raise DataError(
                f"no image bears a file_name of {file}: {missing[0]!r} for one, while images are called like "
                f"{next(iter(images), 'none at all')}; put them where the file says"
            )
        if missing:
            notes.append(f"{len(missing)} images of {file.name} are missing: {first_five(missing)}")
    return Found(
        parts=in_parts(
            images,
            cells,
            lambda name: part_of.get(name) or part_in(images[name].relative_to(folder).as_posix()),
        ),
        class_names=names,
        palette=voc_colours(len(names)),
        annotated=True,
        layout=f"COCO JSON {', '.join(path.name for path in files)}; an image without annotations is unlabelled",
        notes=notes,
    )


def _is_coco(path: Path) -> bool:
    if path.name.startswith(("person_keypoints", "captions", "image_info", ".")) or not path.is_file():
        return False
    content = read_json(path, what="annotation file")
    return isinstance(content, dict) and "images" in content and bool({"annotations", "categories"} & content.keys())


def _part_of(file: Path, folder: Path) -> str:
    """The part that the name of an annotation file, or of its folder below `folder`, says it is for."""
    words = [*re.split(r"[\W_]+", file.stem), *([file.parent.name] if file.parent != folder else [])]
    return next((word for word in words if role_of(word)), "")
