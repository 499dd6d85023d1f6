"""The published lists: parsing, fetching from a server of every mood, caching."""

import hashlib
import http.server
import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from prevmatch.data import lists
from prevmatch.data.lists import labelled_list, list_file, manifest, parse, published_splits, read_list
from prevmatch.errors import ConfigError, DataError

PUBLISHED = Path(__file__).parents[3] / "shared" / "splits"
CONTENT = b"JPEGImages/a.jpg SegmentationClass/a.png\nJPEGImages/b.jpg SegmentationClass/b.png\n"
NAME = "pascal/92/labeled.txt"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a manifest that expects CONTENT."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(lists, "cached_assets_path", lambda *_, **__: folder)
    expected = manifest() | {"files": {NAME: {"sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": len(CONTENT)}}}
    monkeypatch.setattr(lists, "manifest", lambda: expected)
    return folder


@contextmanager
def server(reply):
    """A local stand-in for the pinned address; `reply(handler)` answers each GET. Yields its address and the paths."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            reply(self)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/splits", asked
        running.shutdown()


def good(handler, content=CONTENT):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def test_list_is_fetched_once_and_then_cached(cache):
    with server(good) as (address, asked):
        assert read_list(NAME, address) == ["a", "b"]
        assert read_list(NAME, address) == ["a", "b"]
    assert asked == [f"/splits/{NAME}"]
    assert read_list(NAME, address) == ["a", "b"]  # the server is gone


def test_corrupted_cache_is_fetched_anew(cache):
    with server(good) as (address, asked):
        list_file(NAME, address)
        (cache / NAME).write_bytes(CONTENT[:20])
        assert read_list(NAME, address) == ["a", "b"]
    assert len(asked) == 2


def test_pinned_commit_is_the_address_without_a_mirror(monkeypatch):
    with server(good) as (address, asked):
        monkeypatch.setattr(lists, "ADDRESS", address.replace("/splits", "/{repository}/{commit}/{folder}"))
        read_list(NAME, None)
    assert asked == [f"/wooseok-shin/PrevMatch/bcfac70024616f28cdc7b97d4d2ce796df40c1be/splits/{NAME}"]


def missing(handler):
    handler.send_error(404)


def slow(handler):
    handler.send_response(200)
    handler.end_headers()
    for byte in CONTENT:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def silent(handler):
    time.sleep(2)


def nonsense(handler):
    handler.wfile.write(b"nonsense\r\n")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (lambda h: good(h, CONTENT.replace(b"a.jpg", b"c.jpg")), "sha256"),
        (lambda h: good(h, CONTENT * 1000), "sha256"),
        (missing, "Not Found|404"),
        (slow, "too slow"),
        (silent, "timed out"),
        (nonsense, "nonsense"),
    ],
)
def test_bad_reply_is_one_line_that_says_what_to_do_and_leaves_nothing(reply, reason, cache, monkeypatch):
    if limit := {slow: "TOTAL_SECONDS", silent: "SOCKET_SECONDS"}.get(reply):
        monkeypatch.setattr(lists, limit, 0.5)
    with server(reply) as (address, _), pytest.raises(DataError, match=reason) as caught:
        list_file(NAME, address)
    assert "--splits_dir" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_folder_of_lists_needs_no_server(tmp_path):
    (tmp_path / "own/pascal/92").mkdir(parents=True)
    (tmp_path / "own" / NAME).write_bytes(CONTENT)
    assert labelled_list("pascal", "92", str(tmp_path / "own")) == (["a", "b"], None)
    (tmp_path / "own/pascal/92/unlabeled.txt").write_text("JPEGImages/c.jpg\n")
    assert labelled_list("pascal", "92", str(tmp_path / "own")) == (["a", "b"], ["c"])


def test_list_that_differs_from_the_published_one_is_reported(tmp_path, caplog):
    path = tmp_path / "own" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:41])
    read_list(NAME, str(tmp_path / "own"))
    assert "differs from the published list" in caplog.text


def test_folder_or_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="neither a folder nor"):
        read_list(NAME, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=f"has no {NAME}"):
        read_list(NAME, str(tmp_path))


def test_unknown_split_names_those_that_there_are():
    with pytest.raises(ConfigError, match="no published split '93'; choose one of 92"):
        labelled_list("pascal", "93", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("../../etc/passwd a.png", "line 1: .* leaves the data folder"),
        ("ok.jpg\n/etc/passwd", "line 2: .* leaves the data folder"),
        ("a.jpg ../a.png", "leaves the data folder"),
        ("C:\\x.jpg", "leaves the data folder"),
        ("a.jpg b.png c.png", "3 paths where an image and its mask belong"),
        ("x/a.jpg\ny/a.jpg", "line 2: 'a' stands in line 1 already"),
        ("\n \n", "is empty"),
    ],
)
def test_lists_that_cannot_be_right_are_refused(text, message):
    with pytest.raises(DataError, match=message):
        parse(text, "list.txt")


def test_binary_list_is_refused(tmp_path):
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_list(NAME, str(tmp_path))


@pytest.mark.parametrize(
    ("given", "folder"), [("1/16", "1_16"), ("priority_1_16", "u2pl_1_16"), ("u2pl_1_4", "u2pl_1_4"), ("92", "92"),
                          ("blended_1_8", "1_8")]
)  # fmt: skip
def test_usual_names_of_the_protocols(given, folder):
    assert lists.split_folder(given) == folder


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published lists are not beside the project")
class TestPublishedLists:
    """Against the real lists."""

    @pytest.fixture(autouse=True)
    def real_manifest(self, monkeypatch):
        monkeypatch.undo()

    def test_every_list_matches_its_sha256_and_parses(self, caplog):
        given = json.loads((PUBLISHED / "manifest.json").read_text())
        names = [name for name in given["files"] if (PUBLISHED / name).is_file()]
        assert len(names) == 40
        for name in names:
            assert hashlib.sha256((PUBLISHED / name).read_bytes()).hexdigest() == given["files"][name]["sha256"]
            assert len(read_list(name, str(PUBLISHED))) == given["files"][name]["ids"]
        assert not caplog.text  # none differs from what the package expects

    def test_package_expects_what_was_published(self):
        given = json.loads((PUBLISHED / "manifest.json").read_text())
        assert manifest()["commit"] == given["commit"]
        for name, expected in manifest()["files"].items():
            assert expected.items() <= given["files"][name].items()

    def test_labelled_and_unlabelled_are_disjoint_and_make_the_pool(self):
        for dataset, size in {"pascal": 10_582, "cityscapes": 2_975, "ade20k": 20_210}.items():
            pools = set()
            for split in published_splits(dataset):
                if not (PUBLISHED / dataset / split / "unlabeled.txt").is_file():
                    continue  # a few large ones are not beside the project
                labelled, unlabelled = labelled_list(dataset, split, str(PUBLISHED))
                assert not set(labelled) & set(unlabelled)
                pools.add(frozenset(labelled + unlabelled))
            assert [len(pool) for pool in pools] == [size]
        assert set(read_list("pascal/train_aug.txt", str(PUBLISHED))) in [
            set(a + b) for a, b in [labelled_list("pascal", "92", str(PUBLISHED))]
        ]

    def test_validation_lists_have_the_known_sizes(self):
        sizes = {"pascal": 1_449, "cityscapes": 500, "coco": 5_000, "ade20k": 2_000}
        assert {name: len(read_list(f"{name}/val.txt", str(PUBLISHED))) for name in sizes} == sizes
