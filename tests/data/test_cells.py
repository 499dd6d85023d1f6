"""Cells of a table that are no pictures."""

import os

import pytest

from prevmatch.data.cells import open_cell
from prevmatch.errors import DataError


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path, make):
    make(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png \(id 'a'\) is no file but a folder, pipe or device"):
        open_cell({"id": "a", "image": {"path": str(tmp_path / "a.png"), "bytes": None}}, "image")


def test_a_cell_without_bytes_or_path_is_named():
    with pytest.raises(DataError, match=r"the image of id 'a' cannot be read as an image"):
        open_cell({"id": "a", "image": {"path": None, "bytes": None}}, "image")
