"""Nothing that a file is called can steer a terminal or break a line."""

import pickle

import pytest

from prevmatch.errors import CheckpointError, DataError
from prevmatch.printable import printable

STEERING = ["\x1b[31m", "\n", "\r", "\u202e", "\u2066", "\x9b", "\u2028", "\udce9", "\x00"]


@pytest.mark.parametrize("text", STEERING)
def test_characters_that_are_not_shown_are_escaped(text):
    shown = printable(f"a{text}b")
    assert shown.isprintable()
    assert shown.startswith("a\\")
    assert printable(shown) == shown


def test_what_is_shown_stays():
    assert printable("Straße, 写真 42 \\ é") == "Straße, 写真 42 \\ é"


def test_message_of_an_error_is_one_line_and_travels_between_processes():
    error = DataError("photo \x1b]0;a\nb.png cannot be read")
    assert str(error) == r"photo \x1b]0;a\nb.png cannot be read"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    # As a loader process re-raises it:
    wrapped = f"Caught DataError in DataLoader worker process 0.\nTraceback …\nprevmatch.errors.DataError: {error}\n"
    assert str(DataError(wrapped)) == str(error)
    assert str(CheckpointError()) == ""
