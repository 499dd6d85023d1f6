"""Photos in one folder and masks of the same names in another, as people make them and as VOC, CVAT and labelme do."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from prevmatch.data.colours import find_colour_list, meaning_of, read_colours
from prevmatch.data.found import Found, in_parts
from prevmatch.data.lists import first_five
from prevmatch.data.paired import pair_files
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.texts import find_class_list, read_classes
from prevmatch.data.walking import is_no_data, walk
from prevmatch.errors import DataError

IMAGES = (
    "images", "jpegimages", "image", "imgs", "img", "photos", "pictures", "rgb", "originals", "leftimg8bit", "image_2",
    "input", "inputs", "img_dir", "image_dir", "images_dir",
)  # fmt: skip
SURE_MASKS = ("segmentationclasspng", "segmentationclass", "1st_manual", "manual1", "masks", "mask")
MASKS = (
    *SURE_MASKS, "annotations", "labels", "label", "gtfine", "semantic", "segmentations", "segmentation", "segs",
    "seg", "groundtruth", "ground_truth", "ground-truth", "gt", "gts", "targets", "ann_dir", "mask_dir", "masks_dir",
    "masks_machine", "trimaps",
)  # fmt: skip
"""Names of folders; of several that are there the first counts."""
BESIDE = ("annot", "_labels", "_masks", "_mask", "_annotations", "_label", "_gt")
"""What the name of a folder of masks adds to that of the photos beside it: train/ and trainannot/."""
KINDS = ("_labelTrainIds", "_labelIds")
"""Cityscapes has several files for each image; of these the first kind that is there counts."""
UNLABELLED = re.compile(r"(.*[\W_])?(un|not?[\W_]?)(label+(ed|s)?|annotated)([\W_].*)?", re.IGNORECASE)
"""Names of folders whose photos have no masks: unlabelled, images_unlabeled, not-annotated, no_labels."""
LABELLED = re.compile(r"(label+ed|annotated)([\W_].*)?", re.IGNORECASE)
TRAIN_AND_VAL = re.compile(r"train[\W_]?val", re.IGNORECASE)
OTHER_KINDS = re.compile(r"_(instanceIds|instanceTrainIds|color|labelIds|labelTrainIds|polygons)$")


def read(folder: Path) -> Found | None:
    """Pair the files of images/ and masks/, below `folder` or below its parts (train/images, train/masks)."""
    roots = _roots(folder)
    if not roots:
        return None
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    notes: list[str] = []
    for prefix, image_root, mask_root in roots:
        for root, files in ((image_root, images), (mask_root, masks)):
            walked = walk(root)
            notes += walked.notes()
            of_one_kind = _of_one_kind(walked.files) if files is masks else walked.files
            in_root = [(prefix + path.relative_to(root).with_suffix("").as_posix(), path) for path in of_one_kind]
            last = dict(in_root)
            if double := [path.name for name, path in in_root if last[name] != path]:
                raise DataError(
                    f"{root} has files that share a name up to the suffix: {first_five(double)}; keep one of each"
                )
            files.update(last)
        _refuse_arrays(mask_root, {path.stem for path in masks.values()})
    if not masks and walk(folder, suffixes=(".xml",)).files:
        return None  # Pascal VOC's folders of boxes, with one for masks that is empty
    for kind, files, root in (("images", images, roots[0][1]), ("masks", masks, roots[0][2])):
        if not files:
            raise DataError(f"{root} holds no images; put the {kind} there{'; '.join(['', *notes])}")
    paired = pair_files(images, masks, where=str(folder))
    images, mask_of = paired.images, paired.mask_of
    if not mask_of:
        _refuse_a_mask_per_class(roots[0][2], list(images), list(masks))
        raise DataError(
            f"no mask in {roots[0][2]} bears the name of an image: {next(iter(masks.values())).name} for one, while "
            f"images are named like {next(iter(images.values())).name}; name them alike up to the suffix"
        )
    notes += paired.notes + _unused(folder, [root for _, *both in roots for root in both]) + _unread(folder, images)
    notes += _by_sub_folder(images, mask_of)
    return Found(
        parts=in_parts(
            images,
            paired.masks,
            lambda name: part_in(name) or part_in(mask_of.get(name, "")),
        ),
        notes=notes,
        **classes_beside(folder, f"{roots[0][1].name}/ and {roots[0][2].name}/", *(root for *_, root in roots)),
    )


def _by_sub_folder(images: Collection[str], mask_of: Mapping[str, str]) -> list[str]:
    """A warning where masks lie in sub-folders and photos do not: these may be classes."""
    folders = sorted({mask.rpartition("/")[0] for mask in mask_of.values() if not part_in(mask)})
    if len(folders) < 2 or len({image.rpartition("/")[0] for image in images}) > 1:
        return []
    return [f"WARNING: masks lie in {first_five(folders)}, photos do not; what such a folder is called is not read"]


def _refuse_arrays(folder: Path, read: set[str]) -> None:
    """Raise DataError for masks that are NumPy's files, unless the same ones are there as images too."""
    arrays = [path for path in walk(folder, suffixes=(".npy", ".npz")).files if path.stem not in read]
    if arrays:
        raise DataError(
            f"{folder} has {len(arrays)} masks as arrays, {arrays[0].name} for one; save them as PNG of class ids: "
            "Image.fromarray(np.load(path).astype('uint8')).save(path.with_suffix('.png'))"
        )


def _refuse_a_mask_per_class(folder: Path, images: list[str], masks: list[str]) -> None:
    """Raise DataError where each photo has several masks: cars/a and trees/a, or a_cars and a_trees."""
    of_stem = defaultdict(list)
    for name in masks:
        file = name.lower().rpartition("/")[2]
        for end in (*(i for i, letter in enumerate(file) if letter in "_-"), len(file)):
            of_stem[file[:end]].append(name)
    for image in images:
        several = of_stem[image.rpartition("/")[2].lower()]
        if len(several) > 1:
            raise DataError(
                f"{folder} has {len(several)} masks for the image {image!r}: {first_five(several)}; join them into "
                "one mask of class ids"
            )


def _roots(folder: Path) -> list[tuple[str, Path, Path]]:
    """A prefix for the ids, the folder of the photos and that of the masks, of each part or of the whole."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    meant = [
        path for path in inside
        if role_of(path.name) or LABELLED.fullmatch(path.name) or TRAIN_AND_VAL.fullmatch(path.name)
    ]  # fmt: skip
    inside_parts = [path for part in meant for path in sorted(part.iterdir()) if path.is_dir()]
    meant += [path for path in inside_parts if LABELLED.fullmatch(path.name)]
    places = [("", folder), *((f"{path.relative_to(folder).as_posix()}/", path) for path in meant)]
    roots = [(prefix, images_below(place), _masks_below(place)) for prefix, place in places]
    by_name = {path.name.lower(): path for path in inside}
    beside = [
        (
            f"{path.name}/",
            path,
            next((by_name[n] for end in BESIDE if (n := path.name.lower() + end) in by_name), None),
        )
        for path in inside
    ]
    found = [(prefix, images, masks) for prefix, images, masks in roots if images and masks]
    found = found or [(prefix, images, masks) for prefix, images, masks in beside if masks] or _worded(inside)
    bare = [(prefix, images) for prefix, images, masks in roots if found and images and not masks and prefix]
    if found:
        taken = {path for _, *both in found for path in both}
        unlabelled = [path for path in inside + inside_parts if UNLABELLED.fullmatch(path.name) and path not in taken]
        bare += [(f"{path.relative_to(folder).as_posix()}/", images_below(path) or path) for path in unlabelled]
    return found + [(prefix, images, images / "no masks") for prefix, images in bare]  # a part without masks


def _worded(inside: list[Path]) -> list[tuple[str, Path, Path]]:
    """Folders whose names differ in the word for photos or masks alone: train_images/ and train_masks/."""
    named: tuple[dict[str, Path], dict[str, Path]] = ({}, {})
    for path in inside:
        words = re.split(r"[\W_]+", path.name.lower())
        for kinds, of_kind in zip((IMAGES, MASKS), named, strict=True):
            if len(rest := [word for word in words if word not in kinds]) < len(words):
                of_kind["_".join(rest)] = path
    return [(f"{rest}/", path, named[1][rest]) for rest, path in named[0].items() if rest and rest in named[1]]


def _unused(folder: Path, used: list[Path]) -> list[str]:
    """What to tell of folders with images that are neither photos nor masks here."""
    told = []
    for path in sorted(path for place in {folder, *(root.parent for root in used)} for path in place.iterdir()):
        if not path.is_dir() or is_no_data(path.name) or path.name.lower() == "segmentationobject":
            continue
        known = any(root == path or path in root.parents or root in path.parents for root in used)
        if not known and (count := len(walk(path).files)):
            masks = path.name.lower().startswith("segmentation") or path.name.lower() in MASKS
            why = (
                f"masks that are not used, for those in {used[1].name}/ are; --mask_path says otherwise" if masks
                else f"images that are not used; photos to learn from belong into {used[0].name}/ or unlabelled/"
            )  # fmt: skip
            told.append(f"{path.relative_to(folder)}/ has {count} {why}")
    return told


def _unread(folder: Path, images: Collection[str]) -> list[str]:
    """What to tell of annotations that are not read because there are masks."""
    stems = {name.rpartition("/")[2] for name in images}
    files = [
        path for path in walk(folder, suffixes=(".json", ".xml")).files
        if path.stem in stems or re.search("annot|instances|coco", path.stem.lower())
    ]  # fmt: skip
    return [f"annotations that are not read, as masks are there: {first_five([p.name for p in files])}"] * bool(files)


def _of_one_kind(files: list[Path]) -> list[Path]:
    """The files of one kind, where there are several for each image; DataError if images have another only."""
    kind = next((kind for kind in KINDS if any(path.stem.endswith(kind) for path in files)), None)
    if kind is None:
        return files
    kept = [path for path in files if path.stem.endswith(kind) or not OTHER_KINDS.search(path.stem)]
    have = {OTHER_KINDS.sub("", path.stem) for path in kept}
    if lacking := [path.name for path in files if OTHER_KINDS.sub("", path.stem) not in have]:
        raise DataError(
            f"{len(lacking)} masks are of another kind than {kind} only, {first_five(lacking)}; keep one kind"
        )
    return kept


def classes_beside(folder: Path, layout: str, *others: Path) -> dict:
    """What the files in a folder, in its parts or in other folders say about classes, and the layout's name."""
    places = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir() and role_of(path.name)), *others]
    for place in places:
        if colours := find_colour_list(place):
            names, palette, ids = meaning_of(read_colours(colours))
            return {
                "class_names": names, "palette": palette, "colours": ids, "layout": f"{layout} with {colours.name}",
            }  # fmt: skip
        if listed := find_class_list(place):
            names, values = read_classes(listed)
            gaps = values != tuple(range(len(names)))
            return {
                "class_names": names, "class_ids": values if gaps else (), "layout": f"{layout} with {listed.name}"
            }  # fmt: skip
    return {"layout": layout}


def images_below(folder: Path) -> Path | None:
    """The folder of photos in a folder, by its name, or None."""
    return _child(folder, IMAGES)


def _masks_below(folder: Path) -> Path | None:
    found = _child(folder, MASKS)
    sure = found and found.name.lower() in SURE_MASKS
    if found is None or sure:
        return found
    if _other_annotations(found, images_below(folder)):  # these say what is where, unless masks lie apart from them
        found = _child(found, MASKS)
    return found if found and walk(found).files else None


def _other_annotations(folder: Path, images: Path | None) -> bool:
    """Whether there are annotations besides masks: of photos without a mask, or of all as COCO has them; not what goes
    with a mask (Cityscapes' polygons, GDAL's XML), nor notes and lists."""
    files = walk(folder, suffixes=(".txt", ".json", ".xml")).files
    masks = {OTHER_KINDS.sub("", path.stem) for path in walk(folder).files} if files else set()
    photos = {path.stem for path in walk(images).files} if files and images else set()
    for path in files:
        stem = OTHER_KINDS.sub("", path.name.removesuffix(".aux.xml").rpartition(".")[0])
        if stem not in masks and (stem in photos or (path.suffix == ".json" and _says(path, b'"annotations"'))):
            return True
    return bool(files) and not masks


def _says(path: Path, words: bytes) -> bool:
    """Whether words stand at the beginning or end of a file, as large as it may be."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        return words in head or words in file.read()


def _child(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The sub-folder that bears the first of the names."""
    there = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else {}
    return next((there[name] for name in names if name in there), None)
