"""Pascal, Cityscapes, COCO and ADE20K in their raw folders."""

import shutil

import numpy as np
import pytest

from data.raw_layouts import make_ade20k, make_cityscapes, make_coco, make_pascal
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import KNOWN, load_source, load_training_data
from prevmatch.data.reading import read_mask, read_pair
from prevmatch.errors import DataError

MAKERS = {"pascal": make_pascal, "cityscapes": make_cityscapes, "coco": make_coco, "ade20k": make_ade20k}


@pytest.fixture(params=MAKERS)
def config(request, tmp_path):
    """Settings for a tiny raw folder of each data set."""
    MAKERS[request.param](tmp_path)
    return DataConfig(dataset=request.param, data_dir=tmp_path, splits_dir=str(tmp_path / "lists")
                      if request.param == "pascal" else None)  # fmt: skip


@pytest.mark.parametrize(("name", "classes"), [("pascal", 21), ("cityscapes", 19), ("coco", 81), ("ade20k", 150)])
def test_names_and_palettes_are_complete(name, classes):
    module = KNOWN[name]
    assert len(module.CLASSES) == len(set(module.CLASSES)) == len(module.PALETTE) == classes
    assert all(len(colour) == 3 and 0 <= min(colour) <= max(colour) <= 255 for colour in module.PALETTE)


def test_every_image_has_its_mask_and_its_size(config):
    source = load_source(config)
    assert len(source.train) >= 5
    assert len(source.val) == 2
    assert not set(source.train["id"]) & set(source.val["id"])
    for row in [*source.train, *source.val]:
        image, mask = read_pair(row, source)
        assert image.size == mask.size
        assert set(np.unique(mask)) - {255} <= set(range(source.num_classes))


def test_missing_folder_is_named_with_where_to_get_it(config):
    inner = next(path for path in config.data_dir.iterdir() if path.name != "lists" and any(path.rglob("*.*")))
    shutil.rmtree(inner)
    with pytest.raises(DataError, match=f"lacks .*{inner.name}") as caught:
        load_source(config)
    assert "\n" not in str(caught.value)
    assert ".zip" in str(caught.value)


def ids_in(source, number=1):
    return set(np.unique(read_mask(source.train[number], source)).tolist())


def test_raw_cityscapes_masks_are_mapped_to_train_ids(tmp_path):
    make_cityscapes(tmp_path, kind="labelIds")
    source = load_source(DataConfig(dataset="cityscapes", data_dir=tmp_path))
    assert ids_in(source) == {0, 18, 255}
    assert source.train["id"][0] == "jena_000000_000019"


def test_ade20k_ignores_0_and_starts_with_1(tmp_path):
    make_ade20k(tmp_path)
    assert ids_in(load_source(DataConfig(dataset="ade20k", data_dir=tmp_path))) == {255, 0, 149}


def test_coco_masks_come_from_annotations_where_there_are_none(tmp_path):
    make_coco(tmp_path, masks=False)
    source = load_source(DataConfig(dataset="coco", data_dir=tmp_path))
    assert ids_in(source, 0) == {0, 80}
    assert ids_in(source, 4) == {0}  # without an object all is background
    assert "drawn from annotations" in source.notes[0]


def test_turned_photo_fits_its_mask(tmp_path):
    make_pascal(tmp_path)
    config = DataConfig(dataset="pascal", data_dir=tmp_path, splits_dir=str(tmp_path / "lists"))
    source = load_source(config)
    assert read_pair(source.train[0], source)[0].size == (37, 29)


def test_published_list_divides_the_training_images(tmp_path):
    make_pascal(tmp_path)
    data = load_training_data(
        DataConfig(dataset="pascal", data_dir=tmp_path, split="92", splits_dir=str(tmp_path / "lists"))
    )
    assert data.labelled["id"] == ["2007_000000", "2007_000001"]
    assert data.unlabelled["id"] == [f"2007_{i:06d}" for i in range(2, 6)]


def test_files_that_the_lists_name_but_the_folder_lacks_are_named(tmp_path):
    make_pascal(tmp_path, train=9)
    for i in range(1, 8):
        (tmp_path / f"JPEGImages/2007_{i:06d}.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 7 of the 9 listed files: '2007_000001.jpg', .*'2007_000005.jpg', …"):
        load_source(DataConfig(dataset="pascal", data_dir=tmp_path, splits_dir=str(tmp_path / "lists")))


def test_masks_in_colours_are_named_and_read_with_the_flag_that_the_message_gives(tmp_path):
    from PIL import Image

    make_pascal(tmp_path)
    settings = {"dataset": "pascal", "data_dir": tmp_path, "splits_dir": str(tmp_path / "lists")}
    plain = load_source(DataConfig(**settings))
    expected = np.asarray(read_mask(plain.train[1], plain))
    path = tmp_path / "SegmentationClass/2007_000001.png"
    colours = np.asarray(Image.open(path).convert("RGB")).copy()
    colours[expected == 255] = (224, 224, 192)  # the border in VOC's pictures
    Image.fromarray(colours).save(path)
    with pytest.raises(DataError, match="colours of voc: add --mask_colours voc"):
        read_mask(plain.train[1], plain)
    coloured = load_source(DataConfig(**settings, mask_colours="voc"))
    assert np.array_equal(read_mask(coloured.train[1], coloured), expected)
