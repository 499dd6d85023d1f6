"""README's table of what own data may look like, against what is read."""

import re
from pathlib import Path

import pytest
from data.test_layouts import READ, REFUSED

from prevmatch.config import TrainConfig

README = (Path(__file__).parents[1] / "README.md").read_text()
OWN_DATA = README.partition("## Train on your own images")[2].partition("\n## ")[0]
ROWS = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in OWN_DATA.splitlines() if line[:2] == "| "}
TOLD = {
    "labelme": "labelme", "CVAT": "CVAT", "COCO": "COCO JSON", "Roboflow": "Roboflow",
    "Ultralytics": "YOLO segmentation", "YOLO": "YOLO segmentation", "Label Studio": "Label Studio",
    "Cityscapes": "Cityscapes, CamVid", "KITTI": "KITTI",
    "CamVid": "CamVid", "x_mask.png": "masks beside", "masks beside": "masks beside", "PNG masks": "masks beside",
    "a zip": "a zip", "one extra level": "folders in a folder",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in READ if any(name.startswith(start) for start in TOLD)])
def test_what_is_read_is_in_the_table(name):
    row = TOLD[next(start for start in TOLD if name.startswith(start))]
    assert any(row in have for have in ROWS), row


def test_every_tool_of_the_table_is_read_or_refused():
    known = " ".join([*READ, *REFUSED])
    for tool in ("labelme", "CVAT", "COCO", "Roboflow", "YOLO", "Label Studio", "Supervisely", "KITTI"):
        assert any(tool in have for have in ROWS)
        assert tool in known


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"`--(\w+)", " ".join([*ROWS, *ROWS.values()])))))
def test_flags_of_the_table_are_settings(flag):
    assert flag in TrainConfig.__dataclass_fields__
