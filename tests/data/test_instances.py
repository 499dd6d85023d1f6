"""Masks drawn from COCO annotations."""

import json

import numpy as np
import pytest
from PIL import Image

from prevmatch.data.instances import draw, read_annotations, rectangles_note
from prevmatch.errors import DataError

SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]


def write(tmp_path, annotations, categories=((7, "cat"), (3, "dog"))):
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6},
                   {"id": 2, "file_name": "b.jpg", "width": 8, "height": 6}],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": annotations,
    }  # fmt: skip
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def box(category, segmentation, area, image=1, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, "area": area, **more}


def test_classes_are_numbered_by_category_id_after_the_background(tmp_path):
    names, cells, _ = read_annotations(write(tmp_path, [box(7, [SQUARE], 16)]))
    assert names == ("background", "dog", "cat")
    ids = draw(cells["a.jpg"]["bytes"])
    assert ids.shape == (6, 8)
    assert (ids[1:5, 2:6] == 2).all()
    assert ids.sum() == 2 * 16


def test_image_without_annotation_has_no_mask(tmp_path):
    _, cells, _ = read_annotations(write(tmp_path, [box(7, [SQUARE], 16)]))
    assert cells["b.jpg"] is None


def test_smaller_objects_are_in_front(tmp_path):
    whole = [0, 0, 8, 0, 8, 6, 0, 6]
    for order in (1, -1):
        boxes = [box(7, [SQUARE], 16), box(3, [whole], 48)][::order]
        ids = draw(read_annotations(write(tmp_path, boxes))[1]["a.jpg"]["bytes"])
        assert (ids[1:5, 2:6] == 2).all()
        assert (ids == 1).sum() == 48 - 16


def test_run_lengths_are_drawn_compressed_or_not(tmp_path):
    from pycocotools import mask

    expected = np.zeros((6, 8), dtype=np.uint8, order="F")
    expected[2:4, 3:7] = 1
    packed = mask.encode(expected)
    packed["counts"] = packed["counts"].decode()
    plain = {"size": [6, 8], "counts": [20, 2, 4, 2, 4, 2, 4, 2, 8]}
    for segmentation in (packed, plain):
        _, cells, _ = read_annotations(write(tmp_path, [box(3, segmentation, 8, iscrowd=1)]))
        assert np.array_equal(draw(cells["a.jpg"]["bytes"]), expected)


def test_polygons_without_area_draw_nothing(tmp_path):
    _, cells, _ = read_annotations(write(tmp_path, [box(3, [[1, 1, 2, 2]], 0), box(3, [], 0)]))
    assert draw(cells["a.jpg"]["bytes"]).sum() == 0


def test_panoptic_things_are_classes_and_stuff_is_background(tmp_path):
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    pixels[:, 2:4] = (5, 0, 0)  # segment 5, a thing
    pixels[:, 4:6] = (1, 2, 0)  # segment 1 + 2 · 256, stuff
    (tmp_path / "annotations").mkdir()
    Image.fromarray(pixels).save(tmp_path / "annotations" / "a.png")
    segments = [{"id": 5, "category_id": 7}, {"id": 513, "category_id": 9}]
    path = write(tmp_path, [{"image_id": 1, "file_name": "a.png", "segments_info": segments}])
    content = json.loads(path.read_text())
    content["categories"] += [{"id": 9, "name": "grass", "isthing": 0}]
    path.write_text(json.dumps(content))
    names, cells, _ = read_annotations(path)
    assert names == ("background", "dog", "cat")
    ids = draw(cells["a.jpg"]["bytes"])
    assert ids[0].tolist() == [255, 255, 2, 2, 0, 0, 255, 255]


def panoptic(tmp_path, *kinds):
    """A picture of three segments, one of each category, and columns of none."""
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    pixels[:, 2:, 0] = np.arange(6)
    (tmp_path / "annotations").mkdir()
    Image.fromarray(pixels).save(tmp_path / "annotations" / "a.png")
    segments = [{"id": i, "category_id": i} for i in range(1, 4)]
    path = write(tmp_path, [{"image_id": 1, "file_name": "a.png", "segments_info": segments}])
    content = json.loads(path.read_text())
    content["categories"] = [{"id": i, "name": name, "isthing": int(i == 2)} for i, name in enumerate(kinds, 1)]
    path.write_text(json.dumps(content))
    return path


def test_stuff_is_a_class_where_it_counts_and_what_is_of_no_segment_is_ignored(tmp_path):
    names, cells, _ = read_annotations(panoptic(tmp_path, "road", "car", "sky"), stuff=True)
    assert names == ("road", "car", "sky")
    assert draw(cells["a.jpg"]["bytes"])[0].tolist() == [255, 255, 255, 0, 1, 2, 255, 255]


def test_stuff_called_background_is_background(tmp_path):
    names, cells, _ = read_annotations(panoptic(tmp_path, "road", "car", "Background"), stuff=True)
    assert names == ("background", "road", "car")
    assert draw(cells["a.jpg"]["bytes"])[0].tolist() == [255, 255, 255, 1, 2, 0, 255, 255]


def test_segment_of_a_category_that_is_not_listed_is_refused(tmp_path):
    with pytest.raises(DataError, match="has annotations of category 3, which it does not list"):
        read_annotations(panoptic(tmp_path, "road", "car"))


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"images": 1, "categories": [], "annotations": []}', '{"images": [{}]}']
)
def test_other_json_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json is not a COCO annotation file"):
        read_annotations(tmp_path / "x.json")


def test_what_is_no_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("")
    with pytest.raises(DataError, match=r"annotation file .*x\.json is no JSON"):
        read_annotations(tmp_path / "x.json")


def test_annotation_of_an_unknown_image_is_refused(tmp_path):
    with pytest.raises(DataError, match="has annotations of the image id 9, which it does not list; export again"):
        read_annotations(write(tmp_path, [box(7, [SQUARE], 16, image=9)]))


def test_area_as_text_is_a_number_and_what_is_none_is_refused(tmp_path):
    whole = [0, 0, 8, 0, 8, 6, 0, 6]
    ids = draw(read_annotations(write(tmp_path, [box(7, [SQUARE], "16"), box(3, [whole], "48")]))[1]["a.jpg"]["bytes"])
    assert (ids == 2).sum() == 16
    with pytest.raises(DataError, match=r"annotations\.json is not a COCO annotation file \(TypeError"):
        read_annotations(write(tmp_path, [box(7, [SQUARE], [16])]))


def test_outline_of_fewer_than_three_corners_is_no_outline(tmp_path):
    boxes = [box(7, [[1, 1, 4, 4]], 9, bbox=[1, 1, 3, 3]), box(3, [SQUARE], 16, image=2)]
    _, cells, notes = read_annotations(write(tmp_path, boxes))
    assert notes[-1] == "1 objects of annotations.json are boxes without an outline; their pixels are ignored"
    assert set(np.unique(draw(cells["a.jpg"]["bytes"]))) == {0, 255}


@pytest.mark.parametrize("area", [None, 0])
def test_smaller_objects_are_in_front_where_the_file_does_not_say_how_large_they_are(tmp_path, area):
    runs = {"size": [6, 8], "counts": [0, 48]}
    boxes = [box(7, [SQUARE], area), box(3, [[0, 0, 8, 0, 8, 6, 0, 6]], area), box(3, runs, area)]
    ids = draw(read_annotations(write(tmp_path, boxes))[1]["a.jpg"]["bytes"])
    assert (ids[1:5, 2:6] == 2).all()
    assert (ids == 1).sum() == 48 - 16


@pytest.mark.parametrize(
    ("outline", "told"),
    [
        ([[0, 0, 4, 0, 4, 3, 0, 3]], True),
        ([[0, 1, 2, 0, 4, 4, 2, 5, 0, 1]], True),  # turned, and closed
        ([[0, 0, 4, 0, 4, 3, 1, 3]], False),
        ([[0, 0, 4, 0, 4, 3]], False),
        ([[0, 0, 4, 0, 4, 3, 0, 3], [5, 0, 6, 0, 6, 3, 5, 3]], False),
        ({"size": [6, 8], "counts": [0, 48]}, False),
    ],
)
def test_rectangles_alone_are_warned_of(outline, told):
    assert bool(rectangles_note([outline, outline])) == told
    assert not rectangles_note([outline, [[0, 0, 4, 0, 2, 3]]])
    assert not rectangles_note([])
