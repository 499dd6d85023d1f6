"""Bars in a log: few lines, each of them complete."""

import prevmatch.progress
from prevmatch.progress import progress


def test_a_file_gets_whole_lines_and_none_twice(monkeypatch, capsys):
    monkeypatch.setattr(prevmatch.progress, "SECONDS_BETWEEN_LINES", 0)
    with progress(total=4, desc="read") as bar:
        for _ in range(4):
            bar.update()
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert said.endswith("\n")
    assert "\r" not in said
    assert "" not in lines
    counts = [line.partition("[")[0] for line in lines]
    assert counts[-1] == "read: 100% 4/4 "
    assert len(set(counts)) == len(counts)


def test_what_is_over_at_once_leaves_no_line(capsys):
    assert list(progress(range(3), desc="evaluate", unit="image", leave=None)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_what_a_bar_shows_in_between_makes_no_more_lines(capsys):
    with progress(total=100, desc="train", delay=0) as bar:
        bar.delay = 0
        for loss in range(50):
            bar.set_postfix_str(f"loss={loss}")  # redraws at once
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 2
    assert lines[-1].endswith("loss=49]")


def test_last_line_holds_what_was_shown_after_the_last_step(capsys):
    with progress(total=2, desc="train", delay=0) as bar:
        bar.delay = 0
        bar.update(2)
        bar.set_postfix_str("mIoU=1")
        bar.set_postfix_str("mIoU=2")
    assert [line[-7:] for line in capsys.readouterr().err.splitlines() if "100%" in line] == ["mIoU=2]"]
