"""Tiny folders in the raw layouts of the published data sets: palette masks, odd sizes, a turned photo."""

import json

import numpy as np
from PIL import Image

from prevmatch.data.palettes import voc_palette

SIZES = ((37, 29), (29, 41), (48, 33))


def photo(path, size, *, exif_orientation=None, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    if exif_orientation is None:
        image.save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = exif_orientation
        image.save(path, exif=exif)


def mask(path, ids, *, palette=True):
    image = Image.fromarray(np.asarray(ids, dtype=np.uint8))
    if palette:
        image.putpalette(voc_palette().tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def halves(size, *values):
    """Ids uint8 (H, W) in vertical stripes of the given values."""
    columns = np.array(values)[np.arange(size[0]) * len(values) // size[0]]
    return np.tile(columns, (size[1], 1)).astype(np.uint8)


def write_list(path, pairs):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(f"{image} {mask}" for image, mask in pairs) + "\n")


def make_pascal(folder, train=6, val=2):
    """VOC folder with its lists in folder/lists; the first training photo is stored turned by 90 degrees."""
    names = [f"2007_{i:06d}" for i in range(train + val)]
    for i, name in enumerate(names):
        size = SIZES[i % 3]
        stored = size[::-1] if i == 0 else size
        photo(folder / f"JPEGImages/{name}.jpg", stored, exif_orientation=6 if i == 0 else None, seed=i)
        mask(folder / f"SegmentationClass/{name}.png", halves(size, 0, 255, 1 + i % 20))
    lines = [(f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png") for name in names]
    lists = folder / "lists" / "pascal"
    write_list(lists / "train_aug.txt", lines[:train])
    write_list(lists / "val.txt", lines[train:])
    write_list(lists / "92/labeled.txt", lines[:2])
    write_list(lists / "92/unlabeled.txt", lines[2:train])
    return folder


def make_cityscapes(folder, kind="labelTrainIds"):
    for part, city, count in (("train", "jena", 3), ("train", "ulm", 2), ("val", "lindau", 2)):
        for i in range(count):
            name = f"{city}_{i:06d}_000019"
            photo(folder / f"leftImg8bit/{part}/{city}/{name}_leftImg8bit.png", (64, 32), seed=i)
            values = (0, 18, 255) if kind == "labelTrainIds" else (7, 33, 0)
            path = folder / f"gtFine/{part}/{city}/{name}_gtFine_{kind}.png"
            mask(path, halves((64, 32), *values), palette=False)
    return folder


def make_ade20k(folder):
    for part, short, count in (("training", "train", 5), ("validation", "val", 2)):
        for i in range(count):
            size = SIZES[i % 3]
            photo(folder / f"images/{part}/ADE_{short}_{i:08d}.jpg", size, seed=i)
            mask(folder / f"annotations/{part}/ADE_{short}_{i:08d}.png", halves(size, 0, 1, 150), palette=False)
    return folder


def make_coco(folder, masks=True):
    """COCO folder with masks/, or with annotations/instances_*.json; the last image has no object."""
    from prevmatch.data.coco import CLASSES

    # The official category ids have gaps: 1..90 for 80 classes.
    categories = [{"id": i + (i > 11) + 1, "name": name} for i, name in enumerate(CLASSES[1:])]
    number = 0
    for part, count in (("train2017", 5), ("val2017", 2)):
        content = {"images": [], "annotations": [], "categories": categories}
        for i in range(count):
            number += 1
            name, size = f"{number:012d}", SIZES[i % 3]
            photo(folder / part / f"{name}.jpg", size, seed=number)
            content["images"].append({"id": number, "file_name": f"{name}.jpg", "width": size[0], "height": size[1]})
            if masks:
                mask(folder / "masks" / f"{name}.png", halves(size, 0, 1, 80), palette=False)
            elif i < count - 1:
                left, right = size[0] // 3, size[0]
                polygon = [left, 0, right, 0, right, size[1], left, size[1]]
                box = {"image_id": number, "category_id": categories[-1]["id"], "iscrowd": 0}
                content["annotations"].append(
                    box | {"id": number, "segmentation": [polygon], "area": (right - left) * size[1]}
                )
        if not masks:
            path = folder / "annotations" / f"instances_{part}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
    return folder
