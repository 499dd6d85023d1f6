"""A data set from elsewhere reads no file of this machine, and does not unpack without end."""

import io

import datasets
import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from prevmatch.data import trusted
from prevmatch.data.sources import FEATURES
from prevmatch.data.tables import load_parts
from prevmatch.data.trusted import check_cells
from prevmatch.errors import DataError

FILE = io.BytesIO()
Image.new("RGB", (8, 8)).save(FILE, "PNG")
GOOD = {"bytes": FILE.getvalue(), "path": "a.png"}


def rows(*masks, column="mask"):
    cells = {"image": [GOOD] * len(masks), "mask": [GOOD] * len(masks)} | {column: list(masks)}
    return datasets.Dataset.from_dict({"id": [str(i) for i in range(len(masks))], **cells}, features=FEATURES)


def shards(folder, table, **options):
    (folder / "data").mkdir(parents=True)
    for part in ("train", "validation"):
        parquet.write_table(table, folder / f"data/{part}-00000-of-00001.parquet", **options)
    return str(folder)


@pytest.mark.parametrize("column", ["image", "mask"])
def test_file_of_this_machine_is_not_read(tmp_path, column):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/link.png").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", "../../etc/passwd", str(tmp_path / "set/../x.png"), str(tmp_path / "set/link.png")):
        table = rows(*[GOOD] * 1500, {"bytes": None, "path": path}, column=column)
        with pytest.raises(
            DataError, match=rf"names the file {path} in column '{column}' of part 'train', which is n"
        ):
            check_cells(table, str(tmp_path / "set"), "train")
        with pytest.raises(DataError, match="is not read"):
            load_parts(shards(tmp_path / f"{len(list(tmp_path.iterdir()))}", table.data.table))


def test_files_of_the_data_set_itself_are_read(tmp_path):
    own = {"bytes": None, "path": str(tmp_path / "a.png")}
    check_cells(rows(own, GOOD, None), str(tmp_path), "train")
    with pytest.raises(DataError, match="names the file"):
        check_cells(rows(own), "user/name", "train")
    cached = {"bytes": None, "path": str(datasets.config.HF_DATASETS_CACHE) + "/downloads/x.png"}
    check_cells(rows(cached), "user/name", "train")


def test_annotation_in_a_row_is_never_drawn(tmp_path):
    hostile = {"bytes": b'{"panoptic": "/etc/passwd", "segments": []}', "path": None}
    with pytest.raises(DataError, match="the mask in row 1200 of part 'train' of data set 'a/b' is an annotation"):
        check_cells(rows(*[GOOD] * 1200, hostile), "a/b", "train")


def cells_of(content, count=1):
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    image = pyarrow.array([{"bytes": content, "path": "a.png"}] * count, kind)
    table = pyarrow.table({"image": image, "mask": image, "id": [str(i) for i in range(count)]})
    return table.replace_schema_metadata(rows(GOOD).data.table.schema.metadata)


def test_shard_of_nothing_but_zeros_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(trusted, "MOST_BYTES_OF_A_BOMB", 2**20)
    folder = shards(tmp_path / "bomb", cells_of(bytes(2**18), 40), compression="zstd", use_dictionary=False)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("it is unpacked"))
    with pytest.raises(DataError, match=r"unpacks to \d+ bytes in column 'image.bytes' of 40 rows"):
        load_parts(folder)
    monkeypatch.setattr(trusted, "MOST_BYTES_OF_A_BOMB", 2**40)
    monkeypatch.setattr(trusted, "MOST_BYTES_OF_A_CELL", 2**17)
    with pytest.raises(DataError, match="these are no images"):
        load_parts(folder)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"\0" * 5000])
def test_damaged_shard_is_one_line(tmp_path, content):
    folder = shards(tmp_path / "torn", cells_of(b"x"))
    (tmp_path / "torn/data/train-00000-of-00001.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train-00000-of-00001\.parquet is no whole parquet file"):
        load_parts(folder)
