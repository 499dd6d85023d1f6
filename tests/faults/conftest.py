"""The run that nothing disturbs, which disturbed ones must equal."""

import shutil

import pytest

from faults.runs import finish, outcome


@pytest.fixture(scope="session")
def whole_folder(tmp_path_factory):
    """A finished run with the settings that `runs.start` has by itself."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert finish(folder) == 0
    return folder


@pytest.fixture(scope="session")
def whole(whole_folder):
    return outcome(whole_folder)


@pytest.fixture
def finished(whole_folder, tmp_path):
    """A copy of that run, to do something to."""
    shutil.copytree(whole_folder, tmp_path / "run")
    return tmp_path / "run"
