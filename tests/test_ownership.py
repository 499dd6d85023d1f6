"""What we wrote is known by name and content; everything else is somebody's."""

import json

import pytest

from prevmatch.errors import ConfigError
from prevmatch.ownership import NOTES, OwnFiles


def test_only_what_was_written_and_is_unchanged_is_ours(tmp_path):
    own = OwnFiles(tmp_path)
    for name in ("a", "sub/b", "caf\udce9\n"):
        own.write(tmp_path / name, b"1")
    own.write(tmp_path / "a", b"2")
    later = OwnFiles(tmp_path)
    assert later.names == {"a", "sub/b", "caf\udce9\n"}
    later.require(path for path in tmp_path.rglob("*") if path.is_file() and path.name != NOTES)
    (tmp_path / "a").write_bytes(b"3")
    (tmp_path / "theirs").touch()
    for name in ("a", "theirs"):
        with pytest.raises(ConfigError, match=f"{name} is there and was not written by this command, or was changed"):
            later.require([tmp_path / name])
        OwnFiles(tmp_path, overwrite=True).require([tmp_path / name])
    (tmp_path / "sub/b").unlink()
    later.require([tmp_path / "sub/b"])


def test_own_files_are_cleared_and_no_others(tmp_path):
    own = OwnFiles(tmp_path)
    for name in ("a", "b", "c"):
        own.write(tmp_path / name, b"1")
    (tmp_path / "b").write_bytes(b"corrected by hand")
    (tmp_path / "theirs").touch()
    with pytest.raises(ConfigError, match="b is there and"):
        own.require_unchanged()
    OwnFiles(tmp_path, overwrite=True).require_unchanged()
    own.clear(keep=[tmp_path / "c"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != NOTES) == ["b", "c", "theirs"]
    (tmp_path / "b").write_bytes(b"1")
    own.require_unchanged()


def test_kill_between_the_note_and_the_file_leaves_both_versions_ours(tmp_path, monkeypatch):
    own = OwnFiles(tmp_path)
    own.write(tmp_path / "a", b"1")
    monkeypatch.setattr("prevmatch.ownership.write_bytes", lambda *args, **options: None)
    own.write(tmp_path / "a", b"2")
    monkeypatch.undo()
    OwnFiles(tmp_path).require([tmp_path / "a"])


def test_file_that_cannot_be_written_is_named_with_a_remedy(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match=r"out/ids/a\.png cannot be written \(Not a directory\); choose another"):
        OwnFiles(tmp_path / "out").write(tmp_path / "out/ids/a.png", b"1")


@pytest.mark.parametrize("taken", ["a file", "a folder"])
def test_folder_that_cannot_be_is_told_before_there_is_anything_to_write(tmp_path, monkeypatch, taken):
    monkeypatch.setattr("os.access", lambda path, mode: taken == "a file")  # root may write everywhere
    (tmp_path / "out").touch() if taken == "a file" else (tmp_path / "out").mkdir()
    reason = "is a file" if taken == "a file" else "cannot be written to"
    with pytest.raises(ConfigError, match=f"{tmp_path}/out {reason}; choose another output_dir"):
        OwnFiles(tmp_path / "out/scores").require([])


def test_torn_and_hostile_notes_name_nothing_outside(tmp_path):
    lines = [
        "{",
        "[]",
        '["a"]',
        json.dumps(["../x", "0"]),
        json.dumps(["/etc/passwd", "0"]),
        "[" * 100_000,
        '[1, "0"]',
    ]
    (tmp_path / NOTES).write_text("\n".join([*lines, json.dumps(["good", "0"]), '["hal']))
    assert OwnFiles(tmp_path).names == {"good"}
