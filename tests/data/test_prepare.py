"""Raw folder → self-contained data set."""

import dataclasses
import os

import datasets
import numpy as np
import pytest
from PIL import Image

from data.raw_layouts import make_ade20k, make_cityscapes, make_coco, make_pascal
from data.test_custom import make as make_custom
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_source, load_training_data
from prevmatch.data.prepare import Preparation, check_counts, prepare
from prevmatch.data.reading import read_pair
from prevmatch.errors import DataError


def raw(name, folder):
    makers = {"pascal": make_pascal, "cityscapes": lambda f: make_cityscapes(f, "labelIds"), "ade20k": make_ade20k,
              "coco": lambda f: make_coco(f, masks=False), "custom": make_custom}  # fmt: skip
    makers[name](folder / "raw")
    splits_dir = str(folder / "raw" / "lists") if name == "pascal" else None
    return DataConfig(dataset=name, data_dir=folder / "raw", splits_dir=splits_dir)


@pytest.fixture
def job(tmp_path):
    """A preparation of the tiny Pascal folder in shards of two images."""
    source = load_source(raw("pascal", tmp_path))
    return Preparation(source=source, name="pascal", output_dir=tmp_path / "prepared", rows_per_shard=2)


def same(a, b, source_a, source_b):
    assert a["id"] == b["id"]
    for row_a, row_b in zip(a, b, strict=True):
        if row_a["mask"] is None:
            assert row_b["mask"] is None
            continue
        for x, y in zip(read_pair(row_a, source_a), read_pair(row_b, source_b), strict=True):
            assert np.array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("name", ["pascal", "cityscapes", "ade20k", "coco", "custom"])
def test_prepared_data_is_what_the_raw_folder_held(name, decoded, tmp_path):
    config = raw(name, tmp_path)
    source = load_source(config)
    prepare(Preparation(source=source, name=name, output_dir=tmp_path / "out", decoded=decoded))
    (tmp_path / "raw").rename(tmp_path / "gone")  # nothing may point into the raw folder
    prepared = load_source(dataclasses.replace(config, data_dir=tmp_path / "out"))
    assert prepared.class_names == source.class_names
    assert prepared.palette == source.palette
    (tmp_path / "gone").rename(tmp_path / "raw")
    same(source.train, prepared.train, source, prepared)
    same(source.val, prepared.val, source, prepared)


def test_images_keep_their_bytes_and_masks_carry_the_palette(job, tmp_path):
    prepare(job)
    loaded = datasets.load_dataset(str(job.output_dir), cache_dir=tmp_path / "cache")
    assert loaded["train"].features["classes"].feature.names == list(job.source.class_names)
    row = loaded["train"].cast_column("image", datasets.Image(decode=False))[1]
    assert row["image"]["bytes"] == (tmp_path / "raw/JPEGImages/2007_000001.jpg").read_bytes()
    assert row["classes"] == [0, 2]
    assert isinstance(row["mask"], Image.Image)
    assert row["mask"].getpalette()[3:6] == list(job.source.palette[1])


def test_interrupted_preparation_goes_on_and_repairs_a_torn_shard(job):
    prepare(job)
    shards = sorted(job.output_dir.glob("data/*.parquet"))
    assert [path.name for path in shards] == [
        *(f"train-{i:05d}-of-00003.parquet" for i in range(3)), "validation-00000-of-00001.parquet"
    ]  # fmt: skip
    contents = [path.read_bytes() for path in shards]
    shards[0].unlink()
    shards[1].write_bytes(contents[1][:100])
    (job.output_dir / "data/.train-00002-of-00003.parquet").write_text("torn")
    before = shards[2].stat().st_mtime_ns
    prepare(job)
    assert shards[2].stat().st_mtime_ns == before  # whole ones are not written again
    prepared = load_source(DataConfig(dataset="pascal", data_dir=job.output_dir))
    assert prepared.train["id"] == job.source.train["id"]
    assert not list(job.output_dir.glob("data/.*"))


def test_other_preparation_in_the_folder_is_refused(job):
    prepare(job)
    with pytest.raises(DataError, match="holds another preparation"):
        prepare(dataclasses.replace(job, decoded=True))


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_the_user_are_never_replaced_unasked(job):
    (job.output_dir / "data").mkdir(parents=True)
    (job.output_dir / "data/.gitignore").write_text("*.tmp")
    (job.output_dir / "README.md").write_text("my notes")
    before = contents(job.output_dir)
    with pytest.raises(DataError, match=r"holds README\.md, which `prevmatch prepare` did not write"):
        prepare(job)
    assert contents(job.output_dir) == before
    prepare(job, overwrite=True)
    assert "6 training" in (job.output_dir / "README.md").read_text()
    assert (job.output_dir / "data/.gitignore").read_text() == "*.tmp"
    (job.output_dir / "README.md").write_text("licence: mit")
    prepare(job)
    assert (job.output_dir / "README.md").read_text() == "licence: mit"


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"name": "web"}'])
def test_marker_of_something_else_is_refused(job, content):
    job.output_dir.mkdir()
    (job.output_dir / "prepare.json").write_text(content)
    with pytest.raises(DataError, match=r"that cannot be read|holds another preparation"):
        prepare(job)


def test_corrected_masks_are_noticed(job, tmp_path):
    prepare(job)
    prepare(job)
    path = tmp_path / "raw/SegmentationClass/2007_000001.png"
    before = path.stat()
    mask = np.array(Image.open(path))
    mask[mask == 2] = 3
    corrected = Image.fromarray(mask)
    corrected.putpalette(Image.open(path).getpalette())
    corrected.save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    with pytest.raises(DataError, match=r"was prepared from images or masks that have changed since.*--overwrite"):
        prepare(job)
    prepare(job, overwrite=True)
    prepared = load_source(DataConfig(dataset="pascal", data_dir=job.output_dir))
    assert 3 in np.asarray(read_pair(prepared.train[1], prepared)[1])


def test_unreadable_image_is_named_and_what_was_done_stays(job, tmp_path):
    (tmp_path / "raw/JPEGImages/2007_000003.jpg").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"2007_000003\.jpg .* cannot be read"):
        prepare(job)
    assert [path.name for path in job.output_dir.glob("data/*")] == ["train-00000-of-00003.parquet"]


def test_failed_write_leaves_no_torn_shard(job, monkeypatch):
    def full(self, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets.Dataset, "to_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(job)
    assert not list(job.output_dir.glob("data/*"))


def test_wrong_counts_are_refused(job):
    with pytest.raises(DataError, match="6 training images, 6 of them with a mask, where 10582 belong"):
        check_counts(job.source, "pascal")


def test_labelled_draw_uses_the_classes_column_without_reading_masks(job, monkeypatch):
    prepare(job)
    monkeypatch.setattr("prevmatch.data.survey.pixel_counts", lambda *_: pytest.fail("a mask was read"))
    data = load_training_data(DataConfig(dataset="pascal", data_dir=job.output_dir, labelled="3"))
    assert len(data.labelled) == 3


def test_prepared_data_of_other_classes_is_refused(job):
    prepare(job)
    with pytest.raises(DataError, match="has other classes"):
        load_source(DataConfig(dataset="cityscapes", data_dir=job.output_dir))
