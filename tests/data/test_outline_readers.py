"""Readers of outlines: what tools write beside plain polygons, read to the pixels, or told."""

import base64
import json
import unicodedata

import numpy as np
import pytest

from data import exports
from data.raw_layouts import photo
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.instances import draw
from prevmatch.data.layouts import find
from prevmatch.data.reading import read_pair
from prevmatch.errors import DataError


def load(folder):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def labelled(found):
    return sorted(row["id"] for rows in found.parts.values() for row in rows if row["mask"])


def labelme_elsewhere(folder, path, inside=False):
    """labelme's files in json/, photos in images/."""
    exports.labelme_with_photos_inside(folder) if inside else exports.labelme(folder)
    (folder / "json").mkdir()
    for file in folder.glob("*.json"):
        edit(file, lambda content, name=file.stem: content.update(imagePath=path.format(name)))
        file.rename(folder / "json" / file.name)
    for file in folder.glob("*.jpg"):
        file.unlink()
    exports.photos(folder / "images")
    return folder


def labelme_composed(folder):
    exports.labelme(folder)
    for file in folder.glob("p*.*"):
        if file.suffix == ".json":
            edit(file, lambda content, name=file.stem: content.update(imagePath=f"\u00e9{name}.jpg"))
        form = "NFC" if file.suffix == ".json" else "NFD"
        file.rename(folder / unicodedata.normalize(form, f"\u00e9{file.name}"))
    return folder


def labelme_rotated(folder):
    exports.labelme(folder)
    for file in folder.glob("*.json"):
        edit(file, lambda content: content["shapes"][1].update(shape_type="rotation"))
    return folder


def labelme_drawn(folder):
    """What labelme_json_to_dataset makes."""
    exports.labelme(folder)
    for name in ("img", "label", "label_viz"):
        photo(folder / f"p0_json/{name}.png", exports.SIZE, seed=0)
    return folder


def coco_same_names(folder, root="", prefix=""):
    for part in ("train", "val"):
        exports.photos(folder / root / part, 3)
        exports.write(folder / f"annotations/instances_{part}.json", exports.coco_content(range(3), prefix + "{}"))
    return folder


def coco_escaped(folder):
    exports.coco(folder, name="my%20{}")
    for file in (folder / "images").iterdir():
        file.rename(file.with_name(f"my {file.name}"))
    return folder


def cvat_sizes(folder):
    replace(exports.cvat_images(folder) / "annotations.xml", ('width="40"', 'width="40.0"'))
    return folder


def cvat_skeleton(folder):
    kinds = "<label><name>man</name><type>skeleton</type></label><label><name>head</name><parent>man</parent></label>"
    shape = '<skeleton label="man" z_order="0"><points label="head" points="1,1"/></skeleton>'
    path = exports.cvat_images(folder) / "annotations.xml"
    replace(path, ("</labels>", f"{kinds}</labels>"), ('name="p5.jpg" width="40" height="30">',
                                                       f'name="p5.jpg" width="40" height="30">{shape}'))  # fmt: skip
    return folder


def label_studio(folder, change):
    edit(exports.label_studio(folder) / "project-1.json", lambda tasks: [change(task) for task in tasks])
    return folder


def apart(task):
    """Tags Polygon and Labels instead of PolygonLabels."""
    for done in task["annotations"]:
        region = done["result"][0]
        value = dict(region["value"])
        label = {**region, "id": "a", "type": "labels", "value": {"labels": value.pop("polygonlabels")}}
        done["result"] = [{**region, "id": "a", "type": "polygon", "value": value}, label, done["result"][1]]
        done["result"].append({"type": "relation", "from_id": "a", "to_id": "b"})


def address(form):
    return lambda task: task["data"].update(image=form.format(task["data"]["image"][-6:]))


def yolo_composed(folder):
    exports.yolo_flat(folder)
    for kind, form in (("images", "NFD"), ("labels", "NFC")):
        for file in (folder / kind).iterdir():
            file.rename(file.with_name(unicodedata.normalize(form, f"\u00e9{file.name}")))
    return folder


READ = {
    "labelme's paths": lambda f: labelme_elsewhere(f, "../images/{}.jpg"),
    "labelme's names alone": lambda f: labelme_elsewhere(f, "{}.jpg"),
    "labelme's copies of photos that are there": lambda f: labelme_elsewhere(f, "..\\images\\{}.jpg", inside=True),
    "labelme's names in another form of Unicode": labelme_composed,
    "rotations of X-AnyLabeling": labelme_rotated,
    "labelme_json_to_dataset": labelme_drawn,
    "COCO's addresses": coco_escaped,
    "COCO, equal names in two parts": coco_same_names,
    "COCO, equal names in two parts of images/": lambda f: coco_same_names(f, "images"),
    "sizes of CVAT with a point": cvat_sizes,
    "skeletons of CVAT": cvat_skeleton,
    "Label Studio's labels apart": lambda f: label_studio(f, apart),
    "Label Studio's addresses": lambda f: label_studio(f, address("https://x.org/{}?X-Amz=1")),
    "YOLO's names in another form of Unicode": yolo_composed,
}


@pytest.mark.parametrize("name", READ)
def test_it_is_read_to_the_right_pixels(tmp_path, name):
    data = load(READ[name](tmp_path / "export"))
    assert data.source.class_names == ("background", "car", "tree")
    assert len(data.labelled) + len(data.val) == exports.LABELLED
    assert 1 <= len(data.unlabelled) <= exports.PHOTOS - exports.LABELLED
    for row in (*data.labelled, *data.val):
        assert np.array_equal(np.asarray(read_pair(row, data.source)[1]), exports.TRUTH)


def coco_of_another_part(folder):
    exports.photos(folder / "train", 2)
    exports.photos(folder / "val", 4, first=2)
    exports.write(folder / "annotations/instances_train.json", exports.coco_content(range(6)))


def cvat_cameras(folder):
    exports.cvat_images(folder)
    replace(folder / "annotations.xml", ('name="p0.jpg"', 'name="c1/p0.jpg"'), ('name="p1.jpg"', 'name="c0/p1.jpg"'))
    for file in sorted((folder / "images/default").iterdir()):
        camera = folder / f"images/c{int(file.stem > 'p4')}"
        camera.mkdir(exist_ok=True)
        file.rename(camera / file.name)


CROSSED = {  # what is labelled of what could be, and what is told
    "COCO, a photo of another part": (coco_of_another_part, ["train/p0", "train/p1"],
        "4 images of instances_train.json are missing: 'p2.jpg', 'p3.jpg', 'p4.jpg', 'p5.jpg'"),
    "CVAT, another camera": (cvat_cameras, ["images/c0/p1", "images/c0/p2", "images/c0/p3"],
        "1 images of annotations.xml are missing, 'c1/p0.jpg' for one"),
    "Label Studio, another camera": (
        lambda f: (label_studio(f, lambda task: address(f"/data/local-files/?d=c{task['id'] % 2}/{{}}")(task)),
                   (f / "images").rename(f / "c0")),
        ["c0/p0", "c0/p2"], "3 images of project-1.json are missing, '/data/local-files/?d=c1/p1.jpg' for one"),
}  # fmt: skip


@pytest.mark.parametrize("name", CROSSED)
def test_labels_of_one_photo_are_not_put_on_another_of_that_name(tmp_path, name):
    make, names, told = CROSSED[name]
    make(tmp_path)
    found = find(tmp_path)
    assert labelled(found) == names
    assert told in found.notes


def test_labelme_photo_of_the_files_own_name_goes_before_the_one_it_names(tmp_path):
    exports.labelme(tmp_path)
    edit(tmp_path / "p3.json", lambda content: content.update(imagePath="p5.jpg"))
    found = find(tmp_path)
    assert labelled(found) == ["p0", "p1", "p2", "p3"]
    assert "1 files name another photo than that of their own name, which counts: 'p3.json'" in found.notes


def test_labelme_photo_that_a_file_names_goes_before_another_of_its_stem(tmp_path):
    exports.labelme(tmp_path)
    (tmp_path / "p0.png").write_bytes((tmp_path / "p0.jpg").read_bytes())
    assert labelled(find(tmp_path))[0] == "p0.jpg"


def only_points(folder):
    exports.labelme(folder)
    edit(folder / "p3.json", lambda content: content.update(shapes=content["shapes"][2:]))
    return "4 annotations have no area or no label and are left out (line); 1 photos have no others and count"


def only_key_points(folder):
    def change(task):
        if task["id"] == 3:
            region = task["annotations"][0]["result"][0]
            task["annotations"][0]["result"] = [{**region, "type": "keypointlabels"}]

    label_studio(folder, change)
    return "1 annotations have no area or no label and are left out (keypointlabels); 1 photos have no others"


def only_polylines(folder):
    path = exports.cvat_images(folder) / "annotations.xml"
    start = 'name="p4.jpg" width="40" height="30">'
    replace(path, (start, f'{start}<polyline label="car" points="1,1;5,5"/>'), ('name="p3.jpg"', 'name="x.jpg"'))
    return "1 annotations have no area or no label and are left out (polyline); 1 photos have no others"


@pytest.mark.parametrize("make", [only_points, only_key_points, only_polylines])
def test_photo_that_has_only_what_has_no_area_is_unlabelled_and_told(tmp_path, make):
    told = make(tmp_path)
    found = find(tmp_path)
    assert len(labelled(found)) == exports.LABELLED - 1
    assert [note for note in found.notes if note.startswith(told)]


def turned_in_cvat(folder, shape):
    exports.photos(folder)
    inside = {
        "ellipse": '<ellipse label="car" cx="20" cy="15" rx="14" ry="4" rotation="90"/>',
        "rectangle": '<box label="car" xtl="6" ytl="11" xbr="34" ybr="19" rotation="90"/>'
        '<ellipse label="car" cx="2" cy="2" rx="2" ry="2"/>',
    }[shape]
    entries = "".join(f'<image name="p{i}.jpg" width="40" height="30">{inside}</image>' for i in range(4))
    exports.write(folder / "annotations.xml", f"<annotations>{entries}</annotations>")


def turned_in_label_studio(folder, shape):
    value = {
        "ellipse": {"x": 50, "y": 50, "radiusX": 35, "radiusY": 40 / 3},
        "rectangle": {"x": 60, "y": 10 / 3, "width": 70, "height": 80 / 3},
    }[shape] | {"rotation": 90}

    def change(task):
        for done in task["annotations"]:
            kind = f"{shape}labels"
            done["result"][0].update(type=kind, value=value | {kind: ["car"]})

    label_studio(folder, change)


@pytest.mark.parametrize("make", [turned_in_cvat, turned_in_label_studio])
@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_shapes_are_turned(tmp_path, make, shape):
    make(tmp_path, shape)
    (rows,) = find(tmp_path).parts.values()
    ids = draw(rows[0]["mask"]["bytes"])
    assert (ids[3:27, 19] == (1 if shape == "ellipse" else 255)).all()
    assert (ids[12:18, 5:15] == 0).all()


def bad_mask(folder):
    exports.labelme(folder)
    mask = base64.b64encode(b"x").decode()
    edit(folder / "p1.json", lambda content: content["shapes"][0].update(mask=mask))


def no_number(folder):
    exports.labelme(folder)
    edit(folder / "p1.json", lambda content: content["shapes"][1]["points"].append([float("nan"), 1]))


def bad_width(folder):
    exports.cvat_images(folder)
    replace(folder / "annotations.xml", ('name="p1.jpg" width="40"', 'name="p1.jpg" width="wide"'))


def two_parts(folder):
    exports.yolo_flat(folder)
    exports.write(folder / "data.yaml", "train: images\nval: images\nnames: [car, tree]\n")


REFUSED = {
    "a mask of labelme": (bad_mask, r"p1\.json is no labelme file \(ValueError: a mask of 'tree' that is no PNG\)"),
    "a point of labelme": (no_number, r"p1\.json has an outline .* far beyond its image"),
    "a width of CVAT": (bad_width, r"annotations\.xml has a broken image 'p1\.jpg' \(could not"),
    "two parts of YOLO": (two_parts, r"data\.yaml puts 'images/p0' into train and val; keep one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_broken_is_refused_by_the_file(tmp_path, name):
    make, message = REFUSED[name]
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        find(tmp_path)


YAML = {
    "folders": "train: images/a\nval: [images/b]\ntest: images/c\n",
    "folders of another computer": "train: /home/u/ds/images/a\nval: C:\\ds\\images\\b\ntest: ../images/c\n",
    "folders below a root": "path: images\ntrain: a\nval: b\ntest: c\n",
    "lists": "train: my/one.txt\nval: my/two.txt\ntest: my/three.txt\n",
}


@pytest.mark.parametrize("name", YAML)
def test_parts_of_yolo_are_those_of_data_yaml(tmp_path, name):
    exports.yolo(tmp_path, names=("a", "b", "c"))
    for folder, file, numbers in (("a", "one", (0, 1, 2)), ("b", "two", (3, 4, 5)), ("c", "three", (6, 7, 8))):
        exports.write(tmp_path / f"my/{file}.txt", "".join(f"./images/{folder}/p{i}.jpg\n" for i in numbers))
    exports.write(tmp_path / "data.yaml", f"{YAML[name]}names: [car, tree]\n")
    found = find(tmp_path)
    assert {part: len(rows) for part, rows in found.parts.items()} == {"train": 3, "val": 3, "test": 3}
    assert all("outlines are rectangles" in note for note in found.notes)


@pytest.mark.parametrize(
    ("file", "text"), [("labels/classes.txt", "car\ntree\n"), ("my_set.yaml", "names: [car, tree]\n")]
)
def test_classes_of_yolo_are_found_among_the_texts_and_in_a_yaml_of_any_name(tmp_path, file, text):
    exports.yolo_flat(tmp_path)
    for path in (*tmp_path.glob("*.yaml"), *tmp_path.glob("*.txt")):
        path.unlink()
    exports.write(tmp_path / file, text)
    assert find(tmp_path).class_names == ("background", "car", "tree")


def test_parts_of_yolo_that_are_not_here_are_told_and_folders_keep_their_names(tmp_path):
    exports.yolo(tmp_path, ("{}/images", "{}/labels"), ("train", "valid"))
    exports.write(
        tmp_path / "data.yaml", "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [a, b]\n"
    )
    found = find(tmp_path)
    assert list(found.parts) == ["train", "valid"]
    assert found.notes[1:] == ["data.yaml has '../test/images' for test, which is not here"]
