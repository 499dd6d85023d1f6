"""Kinds of folders that people bring: what is labelled, unlabelled and validated in them, or what is said instead."""

import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_pair
from prevmatch.errors import DataError

SIDE = 24


def photo(number, mode="RGB"):
    noise = np.random.default_rng(number).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((SIDE, SIDE)).convert(mode)


def mask(values=(0, 1, 2), side=SIDE):
    columns = np.arange(side) * len(values) // side
    return Image.fromarray(np.broadcast_to(np.array(values, np.uint8)[columns], (side, side)).copy())


def put(image, path, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


def made(folder, photos="images/p{}.jpg", masks="masks/p{}.png", *, mode="RGB", values=(0, 1, 2), side=SIDE, first=0):
    """Six photos, four of them with masks."""
    for number in range(6):
        put(photo(first + number, mode), folder / photos.format(number), **FORMAT.get(photos[-4:], {}))
    for number in range(4 if masks else 0):
        put(mask(values, side), folder / masks.format(number))


FORMAT = {"jfif": {"format": "JPEG"}}


def with_photos(folder, pattern):
    made(folder)
    for number in range(5):
        put(photo(50 + number), folder / pattern.format(number))


def with_list(folder, text, values, name="classes.txt"):
    made(folder, values=values)
    (folder / name).write_text(text)


def apart(folder):
    made(folder, "labeled/images/p{}.jpg", "labeled/masks/p{}.png")
    for number in range(3):
        put(photo(50 + number), folder / f"unlabeled/images/u{number}.jpg")


def validated(folder, name):
    made(folder, "train/images/p{}.jpg", "train/masks/p{}.png")
    made(folder, f"{name}/images/v{{}}.jpg", f"{name}/masks/v{{}}.png", first=20)


def zipped(folder, levels=1):
    made(folder / "t")
    content = b""
    for level in range(levels):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path in sorted((folder / "t").rglob("*.*")) if not level else []:
                archive.write(path, path.relative_to(folder / "t"))
            if level:
                archive.writestr("inner.zip", content)
        content = buffer.getvalue()
    shutil.rmtree(folder / "t")
    (folder / "all.zip").write_bytes(content)


def linked(folder):
    made(folder.parent / "real")
    for path in (folder.parent / "real").rglob("*.*"):
        link = folder / path.relative_to(folder.parent / "real")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)


def coloured(folder, name, text):
    """Masks in colours, and a table of these."""
    made(folder)
    for path in (folder / "masks").iterdir():
        colours = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255)], dtype=np.uint8)
        put(Image.fromarray(colours[np.asarray(Image.open(path))]), path)
    (folder / name).write_text(text)


NAMED = ("road", "car", "tree")
READ = {  # labelled, unlabelled, validated, classes
    "names with spaces, umlauts and emoji": (
        lambda d: made(d, "images/Föto {} 🐱.jpg", "masks/Föto {} 🐱.png"), 3, 2, 1, None),
    "upper-case suffixes": (lambda d: made(d, "Images/P{}.JPG", "Masks/P{}.PNG"), 3, 2, 1, None),
    "jfif": (lambda d: made(d, "images/p{}.jfif"), 3, 2, 1, None),
    "webp": (lambda d: made(d, "images/p{}.webp"), 3, 2, 1, None),
    "bmp": (lambda d: made(d, "images/p{}.bmp"), 3, 2, 1, None),
    "gif masks": (lambda d: made(d, masks="masks/p{}.gif"), 3, 2, 1, None),
    "RGBA photos": (lambda d: made(d, "images/p{}.png", mode="RGBA"), 3, 2, 1, None),
    "CMYK photos": (lambda d: made(d, mode="CMYK"), 3, 2, 1, None),
    "VOC without ImageSets": (lambda d: made(d, "JPEGImages/p{}.jpg", "SegmentationClass/p{}.png"), 3, 2, 1, None),
    "dots in names": (lambda d: made(d, "images/2024.01.{}.a.jpg", "masks/2024.01.{}.a.png"), 3, 2, 1, None),
    "numbers after other words": (lambda d: made(d, "images/image_{}.jpg", "masks/mask_{}.png"), 3, 2, 1, None),
    "img7 and label7": (lambda d: made(d, "images/img{}.jpg", "masks/label{}.png"), 3, 2, 1, None),
    "deep in folders": (lambda d: made(d, "a/b/c/images/p{}.jpg", "a/b/c/masks/p{}.png"), 3, 2, 1, None),
    "a zip in the folder": (zipped, 3, 2, 1, None),
    "a zip in a zip": (lambda d: zipped(d, 2), 3, 2, 1, None),
    "linked files": (linked, 3, 2, 1, None),
    "unlabelled/": (lambda d: with_photos(d, "unlabelled/u{}.jpg"), 3, 7, 1, None),
    "images_unlabeled/": (lambda d: with_photos(d, "images_unlabeled/u{}.jpg"), 3, 7, 1, None),
    "not-annotated/images/": (lambda d: with_photos(d, "not-annotated/images/u{}.jpg"), 3, 7, 1, None),
    "labeled/ and unlabeled/": (apart, 3, 5, 1, None),
    "validate/": (lambda d: validated(d, "validate"), 4, 2, 4, None),
    "values 1 to N": (lambda d: made(d, values=(1, 2, 3)), 3, 2, 1, ("class_1", "class_2", "class_3")),
    "ids with gaps": (lambda d: with_list(d, "0: road\n1: car\n5: tree", (0, 1, 5)), 3, 2, 1, NAMED),
    "ids from 1": (lambda d: with_list(d, "1: road\n2: car\n3: tree", (1, 2, 3)), 3, 2, 1, NAMED),
    "colours in labels.csv": (
        lambda d: coloured(d, "labels.csv", "name,r,g,b\nroad,0,0,0\ncar,250,50,83\ntree,51,221,255\n"),
        3, 2, 1, NAMED),
    "colours after ids": (
        lambda d: coloured(d, "classes.csv", "id;label;R;G;B\n0;road;0;0;0\n1;car;250;50;83\n2;tree;51;221;255\n"),
        3, 2, 1, NAMED),
    "colours beside ids from 1, masks of ids": (lambda d: with_list(
        d, "id,name,r,g,b\n1,road,0,0,0\n2,car,250,50,83\n3,tree,51,221,255\n", (1, 2, 3), "classes.csv"),
        3, 2, 1, NAMED),
    "colours before names": (
        lambda d: coloured(d, "label_colors.txt", "0 0 0\t\troad\n250 50 83\tcar\n51 221 255\ttree\n"),
        3, 2, 1, NAMED),
    "numbers with zeros before them": (lambda d: made(d, "images/img_{}.jpg", "masks/img_{:04d}.png"), 3, 2, 1, None),
    "background in the end": (
        lambda d: with_list(d, "car\ntree\nbackground", (0, 1, 2)), 3, 2, 1, ("car", "tree", "background")),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_folders_are_read_as_they_are_meant(tmp_path, kind):
    make, labelled, unlabelled, validated, names = READ[kind]
    make(tmp_path / "data")
    data = load_training_data(DataConfig(dataset="custom", data_dir=tmp_path / "data"))
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (labelled, unlabelled, validated)
    assert data.source.class_names == (names or ("class_0", "class_1", "class_2"))
    ids = np.asarray(read_pair(data.labelled[0], data.source)[1])
    assert np.array_equal(ids, mask())


def per_class(folder, pattern):
    made(folder, masks=None)
    for number in range(4):
        for name in ("car", "tree"):
            put(mask((0, 255)), folder / pattern.format(number, name))


def emptied(folder):
    made(folder)
    (folder / "masks/p1.png").write_bytes(b"")


def arrays(folder, images=0):
    """Masks as NumPy's files, the first ones as images."""
    made(folder)
    for number in range(images, 4):
        np.save(folder / f"masks/p{number}.npy", np.asarray(mask()))
        (folder / f"masks/p{number}.png").unlink()


def zip_of_photos(folder):
    folder.mkdir()
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        content = io.BytesIO()
        photo(0).save(content, "PNG")
        archive.writestr("p0.png", content.getvalue())


def on_its_side(folder):
    made(folder)
    for path in [*folder.glob("images/*"), *folder.glob("masks/*")]:
        size = (16, 24) if path.name == "p1.png" else (24, 16)
        Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)


def two_zips(folder):
    folder.mkdir()
    for name in ("images", "masks"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr("a.txt", "")


SAID = {
    "larger masks": (
        lambda d: made(d, side=48), r"4 of 4 masks have another size .* is 48×48, its photo 24×24\); resize"),
    "a mask on its side": (on_its_side, r"1 of 4 masks have another size .* is 16×24, its photo 24×16\); resize"),
    "folders for classes": (
        lambda d: per_class(d, "masks/{1}/p{0}.png"), "has 2 masks for the image 'p0': .*join them into"),
    "masks for classes": (
        lambda d: per_class(d, "masks/p{}_{}.png"), "has 2 masks for the image 'p0': .*join them into"),
    "names of values from 1": (
        lambda d: with_list(d, "road\ncar\ntree", (1, 2, 3)), r"the value 3, but 3 .*`1: road`"),
    "a value that is not listed": (
        lambda d: with_list(d, "0: a\n5: b", (0, 1, 5)), "value 1, but the list of classes names 0, 5"),
    "an empty mask": (emptied, "masks/p1.png .*cannot be read as an image"),
    "a zip of photos": (zip_of_photos, r"/all\.zip has 1 images but lacks images/ and masks/"),
    "a colour that is cut short": (
        lambda d: coloured(d, "colours.csv", "name,r,g,b\nroad,0,0,0\ncar,250\n"),
        r"'car: 250,,' is not `name: r, g, b`"),
    "masks as arrays": (arrays, r"masks has 4 masks as arrays, p0\.npy for one; save them as PNG of class ids"),
    "some masks as arrays": (lambda d: arrays(d, 2), r"masks has 2 masks as arrays, p2\.npy for one"),
    "several zips": (two_zips, "has 2 zip files; unpack them"),
    "no masks": (lambda d: made(d, masks=None), "6 images but lacks masks/"),
    "other names": (lambda d: made(d, "x/p{}.jpg", "y/q{}.png"), "lacks images/ and masks/.*--mask_path"),
    "JPEG masks": (lambda d: made(d, masks="masks/p{}.jpg"), "save masks as PNG"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAID)
def test_what_cannot_be_read_is_one_line_with_the_remedy(tmp_path, kind):
    make, message = SAID[kind]
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message) as caught:
        load_training_data(DataConfig(dataset="custom", data_dir=tmp_path / "data"))
    assert "\n" not in str(caught.value)


def test_photos_in_other_folders_are_not_passed_over_in_silence(tmp_path):
    with_photos(tmp_path, "extra/u{}.jpg")
    notes = load_training_data(DataConfig(dataset="custom", data_dir=tmp_path)).source.notes
    assert "extra/ has 5 images that are not used; photos to learn from belong into images/ or unlabelled/" in notes
