"""The report: one page with everything in it, of finished, interrupted and broken runs."""

import base64
import dataclasses
import io
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from prevmatch import train
from prevmatch.cli import report
from prevmatch.errors import DataError
from prevmatch.share.report_page import duration, read_run, write_report

pytestmark = pytest.mark.usefixtures("drawn_curves")

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Text, addresses and pictures of a page; an element that is not closed fails."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.tags, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def finished(tiny_source, tmp_path_factory):
    from conftest import TINY, divide

    config = dataclasses.replace(TINY, output_dir=tmp_path_factory.mktemp("report") / "run <b>", panel_every=1)
    train(config, divide(tiny_source))
    return config.output_dir


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_page_holds_the_numbers_of_the_run_and_needs_no_other_file(finished):
    text = (finished / "report.html").read_text()
    page, result = Page(text), json.loads((finished / "result.json").read_text())
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"@import|url\(|https?://", text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    for value in (result["best_miou"], result["final_miou"], *result["class_iou"].values()):
        assert f"{value:.2f}" in page.text
    for name in (*result["class_iou"], "prevmatch", "test_resnet", "confidence_threshold"):
        assert name in page.text
    assert f"Finished after {result['config']['epochs']} epochs" in page.text
    assert "run <b>" in page.text  # escaped in the source


def test_pictures_in_the_page_can_be_decoded(finished):
    page = Page((finished / "report.html").read_text())
    for address in page.addresses:
        Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).load()
    kinds = [address.partition(";")[0] for address in page.addresses]
    assert kinds.count("data:image/webp") == 2  # panels
    assert kinds.count("data:image/png") == len(list((finished / "curves").iterdir())) >= 5


def test_interrupted_run_is_reported_as_such(run, capsys):
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    last = next(i for i, line in enumerate(lines) if '"epoch": 0' in line)
    (run / "metrics.jsonl").write_text("\n".join(lines[: last + 1]) + '\n{"step": 4, "lo')
    report(run)
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    page = Page((run / "report.html").read_text())
    assert "Not finished: 1 of 2 epochs are recorded" in page.text
    assert f"{json.loads(lines[last])['miou']:.2f} %" in page.text
    assert "triangle" in page.text  # class names come from the saved model


@pytest.mark.parametrize("content", [None, "", "{", '{"step": 1, "epoch": 0}\n'])
def test_run_without_usable_metrics_still_has_a_page(run, content):
    for name in ("result.json", "metrics.jsonl"):
        (run / name).unlink()
    for name in ("best", "panels", "curves"):
        shutil.rmtree(run / name)
    if content is not None:
        (run / "metrics.jsonl").write_text(content)
    write_report(run)
    page = Page((run / "report.html").read_text())
    assert "No evaluation is recorded yet" in page.text
    assert page.addresses == []


def test_torn_result_counts_as_none(run):
    (run / "result.json").write_text('{"best_miou": 4')
    assert not read_run(run).finished
    write_report(run)


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("result.json", "best_epoch", "a"),
        ("result.json", "class_iou", [1]),
        ("result.json", "environment", None),
        ("study.json", "helped", [1]),
        ("study.json", "suspicious", [1]),
    ],
)
def test_value_of_the_wrong_kind_is_told_in_a_line(run, file, name, value):
    path = run / file
    content = json.loads(path.read_text()) if path.exists() else {"helped": {}, "suspicious": [], "next_step": "x"}
    path.write_text(json.dumps(content | {name: value}))
    with pytest.raises(DataError, match=r"has a value of the wrong kind \(.*; restore it") as caught:
        write_report(run)
    assert "\n" not in str(caught.value)


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no run.*name a run's output folder"):
        write_report(tmp_path)


def test_long_runs_show_a_few_of_their_panels(run):
    for epoch in range(3, 40):
        shutil.copy(run / "panels/epoch_0001.png", run / f"panels/epoch_{epoch:04d}.png")
    write_report(run)
    page = Page((run / "report.html").read_text())
    assert page.text.count("after epoch") == 4
    assert "4 of 39 panels" in page.text
    assert "after epoch 39" in page.text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (12000, "3 h 20 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_report_that_cannot_be_written_is_a_warning_and_the_run_a_success(tiny_config, tiny_data, capsys, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prevmatch.share.closing.write_report", full)
    result = train(dataclasses.replace(tiny_config, epochs=1, method="supervised"), tiny_data)
    assert (result.output_dir / "result.json").is_file()
    warning = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warning) == 1
    assert f"run: prevmatch report {result.output_dir}" in warning[0]
