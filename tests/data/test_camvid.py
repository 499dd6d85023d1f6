import numpy as np
import pytest
from PIL import Image

from prevmatch.data.camvid import load_camvid
from prevmatch.data.reading import read_mask
from prevmatch.errors import DataError


def make(folder, images, masks, void, suffix):
    """A CamVid folder of three training and two validation frames in one of the layouts."""
    for part, count in (("train", 3), ("val", 2)):
        for kind in (images, masks):
            (folder / kind.format(part)).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (12, 9), (i, 0, 0)).save(folder / images.format(part) / f"f{i}{suffix}")
            ids = np.full((9, 12), i, dtype=np.uint8)
            ids[0] = void
            Image.fromarray(ids).save(folder / masks.format(part) / f"f{i}.png")
    return folder


@pytest.fixture(params=["by part", "original"])
def folder(request, tmp_path):
    if request.param == "original":
        return make(tmp_path, "{}", "{}annot", 11, ".png")
    return make(tmp_path, "images/{}", "masks/{}", 255, ".jpg")


def test_both_layouts_are_read_and_void_is_ignored(folder):
    source = load_camvid(folder)
    assert source.train["id"] == ["f0", "f1", "f2"]
    assert source.val["id"] == ["f0", "f1"]
    assert source.num_classes == 11
    mask = np.asarray(read_mask(source.train[2], source))
    assert (mask[0] == 255).all()
    assert (mask[1:] == 2).all()


def test_image_without_mask_is_unlabelled(folder):
    mask = folder / ("trainannot" if (folder / "trainannot").is_dir() else "masks/train") / "f1.png"
    mask.unlink()
    assert load_camvid(folder).train[1]["mask"] is None


def test_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match="no CamVid folder"):
        load_camvid(tmp_path)


def test_empty_image_folder_is_refused(folder):
    for image in folder.rglob("val/f*"):
        image.unlink()
    with pytest.raises(DataError, match="holds no images"):
        load_camvid(folder)
