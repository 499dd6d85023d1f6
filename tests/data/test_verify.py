"""Photos looked at before training: broken ones, near copies, and that nothing is looked at twice."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

import prevmatch.data.verify
from data import exports
from data.raw_layouts import photo
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.sources import file_cell, table
from prevmatch.data.verify import alike, see
from prevmatch.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(prevmatch.data.verify, "cached_assets_path", lambda *_, **__: tmp_path / "cache")
    (tmp_path / "cache").mkdir()


def load(folder, **settings):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder, **settings))


def tear(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_torn_unlabelled_photos_are_left_out_up_to_a_share_and_listed(tmp_path):
    folder = exports.plain(tmp_path / "x")
    exports.photos(folder / "images", 18, first=6)
    tear(folder / "images/p9.jpg")
    data = load(folder)
    assert "p9" not in data.unlabelled["id"]
    assert len(data.unlabelled) == 19
    assert "1 unlabelled photos cannot be read and are left out: 'p9'" in data.source.notes
    with pytest.raises(DataError, match=r"1 of 20 unlabelled photos cannot be read, and --strict is set: .*p9\.jpg"):
        load(folder, strict=True)
    with pytest.raises(DataError, match=r"--unreadable_share is 0\.04"):
        load(folder, unreadable_share=0.04)


@pytest.mark.parametrize("name", ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg"])
def test_torn_labelled_photos_are_always_refused(tmp_path, name):
    folder = exports.plain(tmp_path / "x")
    tear(folder / "images" / name)
    with pytest.raises(DataError, match=f"{name} .*cannot be read"):
        load(folder, unreadable_share=1)


def test_near_copies_are_found_and_others_are_not(tmp_path):
    for i in range(6):
        photo(tmp_path / f"a{i}.png", (160, 120), seed=i)
    original = Image.open(tmp_path / "a2.png")
    original.resize((80, 60)).save(tmp_path / "b0.jpg", quality=60)
    original.point(lambda value: value * 0.8).save(tmp_path / "b1.png")
    original.filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "b2.webp")
    photo(tmp_path / "b3.png", (160, 120), seed=99)
    Image.new("RGB", (160, 120), "white").save(tmp_path / "b4.png")
    Image.new("RGB", (160, 120), "white").save(tmp_path / "a6.png")
    parts = []
    for letter in "ba":
        files = sorted(tmp_path.glob(f"{letter}[0-9].*"))
        parts.append(see(table([p.stem for p in files], [file_cell(p) for p in files], [None] * len(files))))
    assert alike(*parts) == [(0, 2), (1, 2), (2, 2)]


def test_near_copies_in_validation_are_a_warning(tmp_path):
    folder = exports.plain(tmp_path / "x")
    held_out = load(folder).val["id"][0]
    Image.open(folder / f"images/{held_out}.jpg").save(folder / "images/copy.jpg", quality=70)
    assert any(
        note.startswith("WARNING: 1 validation images look like training images") and f"'{held_out} ~ copy'" in note
        for note in load(folder).source.notes
    )


def test_photos_are_looked_at_once_until_they_change(tmp_path, monkeypatch):
    folder = exports.plain(tmp_path / "x")
    first = load(folder).val["id"]
    monkeypatch.setattr(prevmatch.data.verify, "_see", lambda row: pytest.fail(f"{row['id']} is looked at again"))
    assert load(folder).val["id"] == first
    photo(folder / "images/p5.jpg", (44, 33), seed=77)
    with pytest.raises(pytest.fail.Exception, match="p5 is looked at again"):
        load(folder)


def test_what_could_not_be_read_is_looked_at_again_and_so_is_what_a_damaged_cache_says(tmp_path):
    folder = exports.plain(tmp_path / "x")
    with pytest.raises(DataError, match="raise --max_image_pixels"):
        load(folder, max_image_pixels=1000)
    assert load(folder).val["id"]
    for cache in tmp_path.rglob("*.json"):
        cache.write_text(json.dumps({key: [1, "zz"] for key in json.loads(cache.read_text())}))
    assert load(folder).val["id"]


@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_photos_of_several_pages_are_warned_of(tmp_path, suffix):
    exports.plain(tmp_path)
    pages = [Image.fromarray(np.full((30, 40, 3), 50 * i, dtype=np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / f"images/stack.{suffix}", save_all=True, append_images=pages[1:])
    for _ in range(2):  # the second time from the cache
        assert any("1 photos have several pages or frames" in note for note in load(tmp_path).source.notes)
