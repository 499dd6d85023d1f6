"""The difference that is stored makes the code again, and never is another project's."""

import shutil
import subprocess

import pytest

from prevmatch.run import code_version
from prevmatch.run.code_version import commit, write_patch


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    top = tmp_path / "checkout"
    (top / "prevmatch").mkdir(parents=True)
    (top / "prevmatch/__init__.py").write_text("one = 1\n")
    (top / "recipe.py").write_text("lr = 1\n")
    (top / ".gitignore").write_text("secret.py\n")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    monkeypatch.setattr(code_version, "HERE", top / "prevmatch")
    return top


def test_difference_makes_the_code_again(checkout, tmp_path):
    clean = tmp_path / "clean"
    shutil.copytree(checkout, clean)
    before = commit()
    write_patch(tmp_path)
    assert not (tmp_path / "code.patch").exists()
    assert before
    assert not before.endswith("dirty")
    (checkout / "prevmatch/__init__.py").write_text("one = 2\n")
    (checkout / "recipe.py").write_text("lr = 2\n")
    git(checkout, "add", "recipe.py")
    for name in ("prevmatch/neu é.py", "secret.py", "notes.txt"):
        (checkout / name).write_text("new = 3\n")
    assert commit() == f"{before}-dirty"
    write_patch(tmp_path)
    git(clean, "apply", str(tmp_path / "code.patch"))
    for name in ("prevmatch/__init__.py", "recipe.py", "prevmatch/neu é.py"):
        assert (clean / name).read_text() == (checkout / name).read_text()
    assert not (clean / "secret.py").exists()
    assert not (clean / "notes.txt").exists()
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "second")
    write_patch(tmp_path)
    assert not (tmp_path / "code.patch").exists()  # that of an earlier run


def test_package_that_is_installed_into_another_checkout_tells_nothing_of_it(checkout, tmp_path, monkeypatch):
    place = checkout / ".venv/prevmatch"
    place.mkdir(parents=True)
    (place / "__init__.py").touch()
    (checkout / "recipe.py").write_text("secret = 2\n")
    monkeypatch.setattr(code_version, "HERE", place)
    assert commit() == ""
    write_patch(tmp_path)
    assert not (tmp_path / "code.patch").exists()
    monkeypatch.setenv("PATH", "")  # no git at all
    monkeypatch.setattr(code_version, "HERE", checkout / "prevmatch")
    assert commit() == ""
    write_patch(tmp_path)
