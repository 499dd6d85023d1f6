"""Which mask belongs to which image: nothing dropped, nothing overwritten, nothing guessed where two would fit."""

import unicodedata
from pathlib import Path

import pytest

from prevmatch.data.pairing import made_of, pair, second_masks
from prevmatch.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))

PAIRED = {
    "equal": (["a", "b", "c"], ["a", "c"], {"a": "a", "c": "c"}),
    "folders": (["x/a", "y/a"], ["x/a", "y/a"], {"x/a": "x/a", "y/a": "y/a"}),
    "unicode": ([NFC], [NFD], {NFC: NFD}),
    "unicode, the other way": ([NFD, "b"], [NFC], {NFD: NFC}),
    "backslashes": (["x/a"], ["x\\a"], {"x/a": "x\\a"}),
    "letter case": (["IMG_1", "IMG_2"], ["img_1", "img_2"], {"IMG_1": "img_1", "IMG_2": "img_2"}),
    "exact before letter case": (["A", "a"], ["a"], {"a": "a"}),
    "masks flat": (["x/a", "y/b"], ["a", "b"], {"x/a": "a", "y/b": "b"}),
    "masks flat, a name in two folders": (["x/a", "y/a", "y/b"], ["a", "b"], {"y/b": "b"}),
    "Segments.ai": (["a", "b"], ["a_label_ground-truth_semantic"], {"a": "a_label_ground-truth_semantic"}),
    "_mask": (["a", "b"], ["a_mask", "b_mask"], {"a": "a_mask", "b": "b_mask"}),
    "-labels": (["a"], ["a-labels"], {"a": "a-labels"}),
    "two suffixes": (["a", "b"], ["a.jpg"], {"a": "a.jpg"}),
    "two suffixes and more": (["a"], ["a.jpg_mask"], {"a": "a.jpg_mask"}),
    "image and mask": (["a_image"], ["a_mask"], {"a_image": "a_mask"}),
    "Cityscapes": (
        ["ulm/ulm_1_leftImg8bit"],
        ["ulm/ulm_1_gtFine_labelIds"],
        {"ulm/ulm_1_leftImg8bit": "ulm/ulm_1_gtFine_labelIds"},
    ),
    "zeros before numbers": (
        ["img_1", "img_10"],
        ["img_0001", "img_0010"],
        {"img_1": "img_0001", "img_10": "img_0010"},
    ),
    "zeros before numbers, and words": (["image_2"], ["mask_002"], {"image_2": "mask_002"}),
    "zeros that tell two images apart": (["1", "01", "2"], ["001", "002"], {"2": "002"}),
    "zeros within numbers": (["1"], ["10", "101"], {}),
    "some with zeros": (["1", "9", "10"], ["01", "10"], {"1": "01", "10": "10"}),
    "some with _mask": (["a", "b", "c"], ["a", "b_mask"], {"a": "a", "b": "b_mask"}),
    "mask_ before a word": (["tabby", "lion"], ["mask_tabby"], {"tabby": "mask_tabby"}),
    "another camera": (["c0/1", "c0/2", "c1/1"], ["c0/1", "c1/2"], {"c0/1": "c0/1"}),
    "another camera without photos": (["c0/1", "c0/2"], ["c0/1", "c1/2"], {"c0/1": "c0/1"}),
    "folders of another kind": (["c0/1", "c1/2"], ["ann/1", "ann/2"], {"c0/1": "ann/1", "c1/2": "ann/2"}),
    "parts apart": (["train/a", "val/b"], ["val/a", "val/b"], {"val/b": "val/b"}),
    "same name in another part is another": (["train/a"], ["test/a"], {}),
}


@pytest.mark.parametrize("name", PAIRED)
def test_masks_find_their_images_and_the_rest_is_named(name):
    images, masks, expected = PAIRED[name]
    found = pair(images, masks, where="folder")
    assert found.mask_of == expected
    assert set(found.orphans) == set(masks) - set(expected.values())


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["a", "b"], [NFC, NFD]),
        ([NFC, NFD], ["a"]),
        (["a"], ["a_mask", "a_label"]),
        (["1"], ["01", "001"]),
        (["IMG"], ["img", "Img"]),
        (["x/a"], ["x\\a", "x/a"]),
    ],
)
def test_doubles_are_refused(images, masks):
    with pytest.raises(DataError, match=r"^folder has .*keep one"):
        pair(images, masks, where="folder")


@pytest.mark.parametrize(
    ("images", "masks", "note"),
    [
        (["A"], ["a"], "small and capital letters"),
        (["x/a"], ["a"], "by their names alone, in other folders"),
        (["a"], ["a_mask"], "masks are named like 'a_mask' for the image 'a'"),
        (["1"], ["001"], "masks are named like '001' for the image '1'"),
    ],
)
def test_what_was_taken_for_equal_is_said(images, masks, note):
    assert any(note in said for said in pair(images, masks, where="folder").notes)


@pytest.mark.parametrize(
    ("images", "made"),
    [
        ("a_overlay.png a-vis.1.png b_color.jpg c_color.jpg", "a_overlay a-vis.1 b_color c_color"),
        ("a_color.jpg", ""),  # a photo that is called so
        ("a_night.jpg b_night.jpg c_night.jpg d_night.jpg", ""),  # photos of one kind
        ("a_night.png b_dawn.png a2.png ab.png a_2.png", ""),
        ("a_x_0.png b_x_1.png c_x_2.png e.jpg", "a_x_0 b_x_1 c_x_2"),  # of most photos there is one
        ("a_x_0.png a_x_1.png a_x_2.png a_x_3.png", ""),  # of a single one
        ("e_overlay.png", ""),  # of a photo without a mask
    ],
)
def test_pictures_made_of_labelled_photos_are_told_by_their_names(images, made):
    mask_of = {"a": "a_mask", "b": "b_mask", "c": "c", "d": "d"}
    files = [Path(name) for name in (*images.split(), *(f"{name}.jpg" for name in mask_of))]
    assert made_of({path.stem: path for path in files}, mask_of) == made.split()


@pytest.mark.parametrize("name", ["a_mask_2", "a_mask2", "a-label-1", "a (1)_mask_1"])
def test_second_mask_of_a_photo_is_known_by_its_name(name):
    mask_of = {"a": "a_mask", "a (1)": "a (1)_mask"}
    assert second_masks(["a_masked", "b_mask_2", "a", name], mask_of) == {name: name[: 5 if "(" in name else 1]}
