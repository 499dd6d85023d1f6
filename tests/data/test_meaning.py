"""What masks mean, file by file: conventions that differ are refused, and what is read is said."""

import numpy as np
import pytest
from PIL import Image

from data.raw_layouts import halves, photo
from prevmatch.config import DataConfig
from prevmatch.data.custom import load_custom
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.gate import class_table
from prevmatch.data.reading import read_mask
from prevmatch.errors import ConfigError, DataError

SIZE = (48, 16)
RED, BLUE, GREEN, BLACK = (255, 0, 0), (0, 0, 255), (0, 255, 0), (0, 0, 0)


def grey(*values):
    return Image.fromarray(halves(SIZE, *values))


def coloured(*colours):
    return Image.fromarray(np.array(colours, dtype=np.uint8)[halves(SIZE, *range(len(colours)))])


def indexed(palette, *values):
    image = grey(*values)
    image.putpalette([channel for colour in palette for channel in colour])
    return image


def disc(soft):
    """A disc whose edge is soft over so many pixels, 0 to 255."""
    y, x = np.mgrid[:48, :48]
    edge = (16 - np.hypot(y - 24, x - 24)) / soft + 0.5
    return Image.fromarray((edge.clip(0, 1) * 255).round().astype(np.uint8))


def folder(path, masks, classes=None):
    for i, image in enumerate(masks):
        photo(path / f"images/a{i}.png", image.size, seed=i)
        (path / "masks").mkdir(exist_ok=True)
        image.save(path / f"masks/a{i}.png")
    if classes:
        (path / "classes.txt").write_text("\n".join(classes))
    return path


def load(path, masks, classes=None, **settings):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder(path, masks, classes), **settings))


def ids(data):
    return {
        row["id"]: np.asarray(read_mask(row, data.source))
        for rows in (data.labelled, data.val) for row in rows
    }  # fmt: skip


CONTRADICTIONS = {
    "0/1 and 0/255": ([grey(0, 1)] * 2 + [grey(0, 255)] * 2, "'a2', 'a3'.*--mask_threshold 1.*--mask_255 ignored"),
    "0/1 and all 255": ([grey(0, 1)] * 2 + [grey(255)] * 2, "'a2', 'a3'"),
    "0/128 and 0/255": ([grey(0, 128)] * 2 + [grey(0, 255)] * 2, "'a2', 'a3'"),
    "0/1/2 and 0/100/200": ([grey(0, 1, 2)] * 2 + [grey(0, 100, 200)] * 2,
                            r"hold 0, 1, 2 \('a0', 'a1'\) and 2 masks hold 0, 100, 200 \('a2', 'a3'\), and none"),
    "0/1/2 and 0/50/100": ([grey(0, 1, 2)] * 2 + [grey(0, 50, 100)] * 2, r"\('a2', 'a3'\), and none of both"),
    "0/1 and 0/254": ([grey(0, 1)] * 2 + [grey(0, 254)] * 2, "grey levels of the same classes"),
    "soft edges of four": ([grey(0, 64, 128, 192, 255)] * 4, "--mask_threshold 128"),
    "soft edges of few": ([disc(1.2)] * 4, "--mask_threshold 128"),
    "soft edges of many": ([disc(9)] * 4, "--mask_threshold 128"),
    "a dark soft edge": ([grey(*[0] * 5, 32, *[255] * 5)] * 4, "--mask_threshold 128"),
    "red and blue are both 1": (
        [indexed((BLACK, RED), 0, 1)] * 2 + [indexed((BLACK, BLUE), 0, 1)] * 2,
        r"'a0' and 'a2' differ: the value 1 is \(255, 0, 0\) in one and \(0, 0, 255\)",
    ),
    "red is 1 and 2": (
        [indexed((BLACK, RED), 0, 1)] * 2 + [indexed((BLACK, BLUE, RED), 0, 2)] * 2,
        r"'a0' and 'a2' differ: \(255, 0, 0\) is the value 1 in one and 2 in the other",
    ),
    "black is 0 and 1": (
        [indexed((BLACK, RED), 0, 1)] * 2 + [indexed((RED, BLACK), 0, 1)] * 2,
        "'a0' and 'a2' differ",
    ),
    "colours": ([coloured(BLACK, (9, 8, 7))] * 4, "picture in colours.*--mask_colours FILE"),
    "one coloured among grey": ([grey(0, 1)] * 3 + [coloured(BLACK, RED)], "a3.png.*picture in colours"),
    "all ignored": ([grey(255)] * 2 + [grey(0, 255)] * 0, "training needs a pixel of some class|single class"),
    "one value": ([grey(0)] * 4, "single class"),
    "one value, and 255 somewhere": ([grey(1, 1, 255)] * 4, "single class"),
    "a photo": ([Image.fromarray(np.arange(16 * 48, dtype=np.uint16).reshape(16, 48).astype(np.uint8))] * 4,
                "more like grey pictures"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_masks_that_contradict_each_other_are_refused_by_name(tmp_path, name):
    masks, message = CONTRADICTIONS[name]
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, masks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("masks", "settings", "expected"),
    [
        ([grey(0, 1)] * 2 + [grey(0, 255)] * 2, {"mask_threshold": 1}, ["background", "foreground"]),
        ([disc(3)] * 4, {"mask_threshold": 128}, ["background", "foreground"]),
        ([grey(0, 1)] * 2 + [grey(0, 1, 255)] * 2, {"mask_255": "ignored"}, ["background", "foreground"]),
        ([grey(0, 7, 255)] * 2 + [grey(0, 7, 38)] * 2, {}, ["class_0", "class_7", "class_38"]),
        ([grey(0, 255)] * 4, {}, ["background", "foreground"]),
        ([grey(0, 1, 2)] * 3 + [grey(255)], {}, ["class_0", "class_1", "class_2"]),
        ([grey(0, 1)] * 2 + [grey(0, 200)] + [grey(1, 200)], {}, ["class_0", "class_1", "class_200"]),
    ],
)
def test_options_say_what_is_meant(tmp_path, masks, settings, expected):
    data = load(tmp_path, masks, **settings)
    assert list(data.source.class_names) == expected
    found = set().union(*(np.unique(values).tolist() for values in ids(data).values()))
    assert found - {255} == set(range(len(expected)))


def test_threshold_halves_soft_edges(tmp_path):
    found = ids(load(tmp_path, [disc(5)] * 3, mask_threshold=128))["a0"]
    assert np.array_equal(found == 1, np.asarray(disc(5)) >= 128)


COLOURS = "ground: 200,200,200\ncar: 255,0,0\ntree: 0,255,0\n"


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([coloured((200,) * 3, RED, GREEN)] * 3 + [grey(200)], [0]),
        ([coloured((200,) * 3, RED, GREEN)] * 3 + [grey(0, 1, 2)], [0, 1, 2]),
        ([coloured((200,) * 3, RED, GREEN)] * 3 + [indexed(((200,) * 3, GREEN), 0, 1)], [0, 2]),
    ],
    ids=["a grey colour", "ids", "a palette of its own"],
)
def test_grey_and_palette_files_among_coloured_ones_are_read_by_what_they_hold(tmp_path, masks, expected):
    (tmp_path / "colours.txt").write_text(COLOURS)
    data = load(tmp_path, masks, mask_colours=str(tmp_path / "colours.txt"))
    assert np.unique(ids(data)["a3"]).tolist() == expected


def test_grey_files_that_fit_neither_colours_nor_ids_are_refused(tmp_path):
    (tmp_path / "colours.txt").write_text(COLOURS)
    with pytest.raises(DataError, match="has the colour"):
        load(tmp_path, [coloured((200,) * 3, RED, GREEN)] * 3 + [grey(0, 90)],
             mask_colours=str(tmp_path / "colours.txt"))  # fmt: skip


def test_bilevel_masks_are_read_by_a_list_of_colours(tmp_path):
    (tmp_path / "colours.txt").write_text("ground: 0,0,0\ncar: 255,255,255\n")
    masks = [Image.fromarray(halves(SIZE, 0, 1).astype(bool)) for _ in range(4)]
    data = load(tmp_path, masks, mask_colours=str(tmp_path / "colours.txt"))
    assert np.unique(ids(data)["a0"]).tolist() == [0, 1]


def test_each_colour_that_is_found_becomes_a_class(tmp_path):
    masks = [coloured((200,) * 3, RED, GREEN)] * 3 + [coloured((200,) * 3, BLUE)]
    data = load(tmp_path, masks, mask_colours="found")
    assert data.source.class_names == ("rgb_0_0_255", "rgb_0_255_0", "rgb_200_200_200", "rgb_255_0_0")
    assert data.source.palette == (BLUE, GREEN, (200,) * 3, RED)
    assert np.unique(ids(data)["a0"]).tolist() == [1, 2, 3]
    assert any("lines such as `name: 0, 0, 255`" in note for note in data.source.notes)
    assert load(tmp_path, masks, mask_colours="found", ignore_classes=("rgb_0_0_255",)).source.num_classes == 3


def test_more_colours_than_classes_could_be_are_no_classes(tmp_path):
    blurred = coloured(*((5 * i, 255 - 5 * i, 9) for i in range(48)))
    more = coloured(*((9, 5 * i, 255 - 5 * i) for i in range(48)))
    with pytest.raises(DataError, match=r"the masks hold \d+ colours, .*--mask_tolerance 40"):
        load(tmp_path, [blurred, more, coloured(*((5 * i, 9, 5 * i) for i in range(48)))], mask_colours="found")


def test_nearest_colours_are_taken_within_the_stated_distance_only(tmp_path):
    (tmp_path / "colours.txt").write_text(COLOURS)
    masks = [coloured((200,) * 3, (245, 9, 8), GREEN)] * 4
    settings = {"mask_colours": str(tmp_path / "colours.txt")}
    with pytest.raises(DataError, match=r"has the colour \(245, 9, 8\).*--mask_tolerance"):
        load(tmp_path, masks, **settings)
    with pytest.raises(DataError, match=r"has the colour \(245, 9, 8\)"):
        load(tmp_path, masks, mask_tolerance=9, **settings)
    assert np.unique(ids(load(tmp_path, masks, mask_tolerance=10, **settings))["a0"]).tolist() == [0, 1, 2]


def test_threshold_and_colours_together_are_refused(tmp_path):
    (tmp_path / "colours.txt").write_text(COLOURS)
    with pytest.raises(ConfigError, match="mask_threshold is for grey masks"):
        load(tmp_path, [coloured((200,) * 3, RED)] * 3, mask_colours=str(tmp_path / "colours.txt"), mask_threshold=9)


def test_partly_painted_masks_train_and_their_ignored_share_is_shown(tmp_path):
    scribbles = [grey(0, 255, 255, 255, 1, 255, 255, 255)] * 3 + [grey(0, 1, 255, 255)]
    data = load(tmp_path, scribbles)
    assert data.source.class_names == ("background", "foreground")
    assert class_table(data.source)[-1] == "ignored 68.8 % of all pixels, at most 75.0 % of a mask ('a0')"


@pytest.mark.parametrize("high", [1, 255])
def test_one_named_class_is_the_foreground_of_masks_of_two_values(tmp_path, high):
    (tmp_path / "classes.txt").write_text("polyp\n")
    data = load(tmp_path, [grey(0, high)] * 4)
    assert data.source.class_names == ("background", "polyp")
    assert any("polyp" in note for note in data.source.notes)


def test_ignored_value_among_classes_that_were_found_is_said(tmp_path):
    notes = load(tmp_path, [grey(0, 60, 255)] * 2 + [grey(0, 60)] * 2).source.notes
    assert any(note.startswith("classes found in the masks: 0, 60; 255 is ignored;") for note in notes)


def test_masks_without_names_are_said_to_be_read_by_the_classes_of_a_model(tmp_path):
    load(tmp_path, [grey(0, 1, 2, 255)] * 4)
    notes = load_custom(DataConfig(dataset="custom", data_dir=tmp_path), known=("bg", "car", "tree")).notes
    assert any("by those of the model, 0: bg, 1: car, 2: tree, 255: ignored; a classes.txt" in note for note in notes)
