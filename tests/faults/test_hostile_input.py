"""Whatever a file holds: the outcome is success or an error of the package's own, in one line."""

import contextlib
import io
import json
import pickle
import zlib

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from prevmatch.config import TrainConfig
from prevmatch.data.colours import read_colours
from prevmatch.data.instances import draw, read_annotations
from prevmatch.data.lists import parse
from prevmatch.data.reading import read_image, read_mask
from prevmatch.data.sources import Source, table
from prevmatch.data.splits import amount, every_nth
from prevmatch.data.texts import read_class_names
from prevmatch.errors import PrevMatchError
from prevmatch.models.published import read_released
from prevmatch.models.segmenter import Segmenter
from prevmatch.writing import damage, write_manifest

FUZZ = settings(max_examples=60, deadline=20_000, suppress_health_check=list(HealthCheck), derandomize=True)
EMPTY = table([], [], [])
SOURCE = Source(train=EMPTY, val=EMPTY, class_names=("a", "b"), palette=((0, 0, 0), (9, 9, 9)))

lines = st.text(max_size=300)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def tried(call, *args):
    """Call; only the package's own errors, of one line, may come out."""
    try:
        return call(*args)
    except PrevMatchError as error:
        line = str(error)
    assert line
    assert "\n" not in line
    return None


def written(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(content)
    return path


@FUZZ
@given(lines)
def test_lists_of_images(text):
    for name in tried(parse, text, "list.txt") or []:
        assert "/" not in name
        assert name not in ("..", "")


@FUZZ
@given(lines, st.integers(0, 10**6))
def test_split_names_and_amounts(text, total):
    tried(every_nth, ["a", "b"], text)
    count = tried(amount, text, total)
    assert count is None or 1 <= count <= total


@FUZZ
@given(st.binary(max_size=300) | lines.map(str.encode))
def test_class_files_and_colour_files(tmp_path_factory, content):
    path = written(tmp_path_factory, content)
    tried(read_class_names, path)
    tried(read_colours, path)


FIELDS = sorted(TrainConfig().to_json())


@FUZZ
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), values, max_size=4))
def test_settings_files(content):
    tried(TrainConfig.from_json, json.loads(json.dumps(content)))


@FUZZ
@given(st.dictionaries(st.sampled_from(["images", "annotations", "categories", "x"]), values, max_size=4) | values)
def test_annotation_files(tmp_path_factory, content):
    tried(read_annotations, written(tmp_path_factory, json.dumps(content).encode()))


@FUZZ
@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=9), max_size=3), st.floats(-10, 1e9))
def test_polygons(tmp_path_factory, polygons, area):
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 10}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": polygons, "area": area}],
    }
    found = tried(read_annotations, written(tmp_path_factory, json.dumps(content).encode()))
    if found and found[1]["a.jpg"]:
        ids = tried(draw, found[1]["a.jpg"]["bytes"])
        assert ids is None or ids.shape == (10, 20)


CONFIG = {"encoder": "test_resnet", "num_classes": 3, "decoder_channels": 8, "low_level_channels": 4}
KEYS = [*CONFIG, "mean", "class_names", "palette", "atrous_rates", "eval_window", "library_name", "x"]


@FUZZ
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=3) | st.just({}), st.binary(max_size=60))
def test_model_folders(tmp_path_factory, changes, weights):
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / "model.safetensors").write_bytes(weights)
    assert tried(Segmenter.from_pretrained, folder) is None


@FUZZ
@given(st.binary(max_size=400) | values.map(pickle.dumps))
def test_released_checkpoints(tmp_path_factory, content):
    tried(read_released, written(tmp_path_factory, content))


@FUZZ
@given(values | st.binary(max_size=50))
def test_checkpoint_manifests(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("step")
    path = folder / "manifest.json"
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(json.dumps(content))
    assert isinstance(damage(folder), str)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"", b"null"])
def test_manifest_that_names_no_file_is_damaged(tmp_path, content):
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "manifest.json").write_bytes(content)
    assert damage(tmp_path) == "manifest.json is missing or damaged"


def test_folder_is_whole_until_a_file_changes(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    write_manifest(tmp_path)
    assert damage(tmp_path) is None
    (tmp_path / "state.json").write_text("[]")
    assert damage(tmp_path) == "state.json is missing or damaged"


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def bomb(side):
    """A PNG that claims side × side pixels and holds none."""
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunks = header, b"IDAT" + zlib.compress(b"\0" * 100)
    parts = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8))
FILES = {
    **{f"mode {m}": encoded(PHOTO.convert(m), "TIFF") for m in ("L", "P", "1", "CMYK", "RGBA", "LA", "F", "I;16")},
    "jpeg cmyk": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "animated gif": encoded(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(90)] * 3),
    "animated webp": encoded(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)] * 3),
    "1×1": encoded(Image.new("RGB", (1, 1)), "PNG"),
    "1×N": encoded(Image.new("L", (1, 5000)), "PNG"),
    "N×1": encoded(Image.new("L", (65_500, 1)), "PNG"),
    "empty": b"",
    "text": b"not an image",
    "html": b"<html><body>404</body></html>",
    "bomb": bomb(60_000),
    "large claim": bomb(12_000),
    "nothing behind the header": bomb(100),
    "pickle": pickle.dumps({"a": 1}),
    "zip": b"PK\x03\x04" + b"\0" * 50,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_image_files_of_every_kind(name):
    cell = {"bytes": FILES[name], "path": None}
    row = {"id": "x", "image": cell, "mask": cell}
    image = tried(read_image, row)
    assert image is None or image.mode == "RGB"
    tried(read_mask, row, SOURCE)


def test_bombs_are_named_with_the_option_that_admits_large_images():
    row = {"id": "x", "image": {"bytes": FILES["bomb"], "path": None}}
    with pytest.raises(PrevMatchError, match=r"more than 178956970 pixels.*--max_image_pixels"):
        read_image(row)


@FUZZ
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]), st.data())
def test_damaged_image_files(form, data):
    content = bytearray(encoded(PHOTO, form))
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    cell = {"bytes": content, "path": None}
    with contextlib.suppress(Image.DecompressionBombWarning):
        tried(read_image, {"id": "x", "image": cell})
        tried(read_mask, {"id": "x", "mask": cell}, SOURCE)


def test_rows_come_back_as_they_were():
    """The table itself carries hostile bytes unharmed."""
    rows = table(["a"], [{"bytes": FILES["bomb"], "path": None}], [None])
    assert isinstance(rows, datasets.Dataset)
    assert rows[0]["image"]["bytes"] == FILES["bomb"]
