"""What a finished run says of itself: the command that repeats it."""

from types import SimpleNamespace

import pytest

from prevmatch.run.results import command

STARTED = {
    "the command": ("/x/bin/prevmatch", 1, "prevmatch train --seed 1"),
    "the module": ("/x/prevmatch/__main__.py", 1, "prevmatch train --seed 1"),
    "the module in several processes": (
        "/x/prevmatch/__main__.py", 4, "accelerate launch --num_processes 4 -m prevmatch train --seed 1"),
    "a recipe": ("recipes/custom.py", 1, "accelerate launch recipes/custom.py train --seed 1"),
    "a recipe in several processes": (
        "recipes/custom.py", 2, "accelerate launch --num_processes 2 recipes/custom.py train --seed 1"),
    "a notebook": ("/x/ipykernel_launcher", 1, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", STARTED)
def test_command_is_the_one_that_repeats_the_run(monkeypatch, name):
    script, processes, said = STARTED[name]
    monkeypatch.setattr("sys.argv", [script, "train", "--seed", "1"])
    assert command(SimpleNamespace(num_processes=processes)) == said
