"""Lists of classes as people and tools write them."""

import json

import pytest

from prevmatch.data.colours import read_colours
from prevmatch.data.texts import find_class_list, read_class_names, read_classes, read_json
from prevmatch.errors import DataError

NAMES = ("sky", "tree", "road sign")
LISTS = {
    "classes.txt": "sky\ntree\nroad sign\n",
    "obj.names": "sky\r\ntree\r\nroad sign",
    "labels.txt": "0: sky\n1: tree\n2: road sign\n",
    "class_names.txt": "__ignore__\nsky\ntree\nroad sign\n\n",
    "numbered/classes.txt": "0 sky\n1 tree\n2 road sign",
    "shuffled/classes.txt": "2: road sign\n0: sky\n1: tree",
    "dotted/classes.txt": "2. road sign\n0. sky\n1) tree\n",
    "behind/classes.txt": "tree 1\nroad sign 2\nsky 0\n",
    "commas/classes.txt": "tree,1\nroad sign,2\nsky: 0\n",
    "titled/classes.txt": "id name\n0 sky\n1 tree\n2 road sign\n",
    "comment/classes.txt": "# mine\nsky\ntree\n# new\nroad sign\n",
    "arrow/classes.txt": "2 => road sign\n0 -> sky\n1 => tree\n",
    "dashed/classes.txt": "2 - road sign\n0 - sky\n1 - tree\n",
    "dashed behind/classes.txt": "tree - 1\nroad sign - 2\nsky - 0\n",
    "dashes/classes.txt": "- sky\n- tree\n- road sign\n",
    "remark/classes.txt": "sky  # above\ntree\nroad sign",
    "labels.csv": "id,name\n0,sky\n1,tree\n2,road sign\n",
    "train/classes.csv": "name,id,trainId\ntree,1,0\nsky,0,255\nroad sign,2,1\n",
    "train first/classes.csv": "trainId,index,name,id\n0,7,tree,1\n255,8,sky,0\n1,9,road sign,2\n",
    "super/classes.csv": "id,name,supercategory_id\n2,road sign,1\n0,sky,0\n1,tree,1\n",
    "value/labels.json": json.dumps([{"value": 2, "name": "road sign"}, {"value": 0, "name": "sky"},
                                     {"value": 1, "name": "tree"}]),
    "strings/labels.json": json.dumps([{"id": "1", "name": "tree"}, {"id": "0", "name": "sky"},
                                       {"id": "2", "name": "road sign"}]),
    "more/labels.json": json.dumps({"0": {"name": "sky", "color": [1, 2, 3]}, "1": {"name": "tree"},
                                    "2": {"label": "road sign"}}),
    "classes.csv": "id,name\n0,sky\n1,tree\n2,road sign\n",
    "semicolon/classes.csv": "sky;0\ntree;1\nroad sign;2\n",
    "roboflow/_classes.csv": "Pixel Value, Class\n0, sky\n1, tree\n2, road sign\n",
    "colours/classes.csv": "name,r,g,b\nsky,0,0,255\ntree,0,255,0\nroad sign,255,0,0\n",
    "classes.json": json.dumps(["sky", "tree", "road sign"]),
    "ids/classes.json": json.dumps({"0": "sky", "1": "tree", "2": "road sign"}),
    "named/classes.json": json.dumps({"sky": 0, "tree": 1, "road sign": 2}),
    "notes.json": json.dumps({"categories": [{"id": 0, "name": "sky"}, {"id": 1, "name": "tree"},
                                             {"id": 2, "name": "road sign"}]}),
    "data.yaml": "path: ../x\nnc: 3\nnames: ['sky', 'tree', 'road sign']\n",
    "table/data.yaml": "names:\n  0: sky\n  1: tree\n  2: road sign\n",
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", LISTS)
def test_names_are_read_in_the_order_of_their_ids_from_any_form_and_encoding(tmp_path, name, encoding):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(LISTS[name].encode(encoding))
    assert read_class_names(path) == NAMES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_lists_of_colours_and_json_are_read_in_any_encoding(tmp_path, encoding):
    mark = "" if encoding != "utf-16-be" else "\ufeff"
    content = f"{mark}# label:color_rgb:parts:actions\na:0,0,0::\nb:1,2,3::"
    (tmp_path / "labelmap.txt").write_bytes(content.encode(encoding))
    assert read_colours(tmp_path / "labelmap.txt") == {"a": (0, 0, 0), "b": (1, 2, 3)}
    (tmp_path / "x.json").write_bytes(f'{mark}{{"a": 1}}'.encode(encoding))
    assert read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.json", '{"sky": [0, 0, 255], "car": [1, 2, 3]}'), ("c.csv", "name,r,g,b\nsky,0,0,255\ncar,1,2,3\n"),
     ("d.csv", "sky;0;0;255\ncar;1;2;3"), ("c.txt", "sky: 0, 0, 255\ncar: 1, 2, 3")],
)  # fmt: skip
def test_colours_are_read_from_any_form(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_colours(tmp_path / name) == {"sky": (0, 0, 255), "car": (1, 2, 3)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: a\n1: b", "each class needs one of its own"),
        ("1: a\n2: b", "must be 0, 1"),
        ("0: a\n2: b", "must be 0, 1"),
        ("a\na", "different names"),
        ("", "1 to 255"),
        ("a\n\nb", "different names"),
    ],
)
def test_lists_with_gaps_or_doubles_are_refused(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_class_names(tmp_path / "classes.txt")


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [("c.txt", "0: road\n1: car\n5: tree", (0, 1, 5)), ("c.csv", "id,name\n1,road\n2,car\n7,tree\n", (1, 2, 7)),
     ("c.json", '{"7": "tree", "1": "road", "2": "car", "255": "void"}', (1, 2, 7)),
     ("c.txt", "road\ncar\ntree", (0, 1, 2))],
)  # fmt: skip
def test_ids_of_classes_may_have_gaps(tmp_path, name, text, ids):
    (tmp_path / name).write_text(text)
    assert read_classes(tmp_path / name) == (("road", "car", "tree"), ids)


def test_the_list_of_a_folder_is_found(tmp_path):
    assert find_class_list(tmp_path) is None
    (tmp_path / "obj.names").write_text("a")
    assert find_class_list(tmp_path) == tmp_path / "obj.names"


def test_numbers_that_are_part_of_names_are_no_ids(tmp_path):
    for text in ("class 2\nclass 1\n", "car 2\ntree\n", "type 1 1\ntype 1 2\n", "2-wheeler\n4-door\n"):
        (tmp_path / "classes.txt").write_text(text)
        assert read_class_names(tmp_path / "classes.txt") == tuple(text.splitlines())


@pytest.mark.parametrize(
    "content", ['[{"name": "a", "id": 0}, {"name": "b"}]', '[{"id": 0}, {"id": 1}]', '[{"name": "a", "id": "x"}]']
)
def test_entries_without_id_or_name_are_refused(tmp_path, content):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=r"labels\.json has .*; give each class"):
        read_class_names(tmp_path / "labels.json")


@pytest.mark.parametrize("names", ["[sky, no]", "{0: sky, 1: off}", "[{name: yes}, {name: sky}]"])
def test_words_that_yaml_takes_for_truth_are_refused_as_names(tmp_path, names):
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    with pytest.raises(DataError, match=r"data\.yaml has (True|False) where a name belongs; .*quotes") as caught:
        read_classes(tmp_path / "data.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["p0.jpg 0\np1.jpg 1\n", "image,label\np0.png,cat\n", '{"a/p0.jpg": "cat"}'])
def test_list_of_photos_is_no_list_of_classes(tmp_path, text):
    (tmp_path / "labels.txt").write_text(text)
    assert find_class_list(tmp_path) is None
    (tmp_path / "classes.csv").write_text("id,name\n0,jpg artefact\n")
    assert find_class_list(tmp_path).name == "classes.csv"


def test_quotes_about_names_are_no_part_of_them(tmp_path):
    (tmp_path / "classes.txt").write_text("\"sky\"\n'car'\nit's\n")
    assert read_classes(tmp_path / "classes.txt")[0] == ("sky", "car", "it's")
