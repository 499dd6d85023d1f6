"""What importing the package costs and offers."""

import subprocess
import sys

import pytest


def loaded_by(statement):
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_settings_need_no_torch():
    assert not loaded_by("from prevmatch import TrainConfig") & {"torch", "timm", "datasets", "accelerate"}


def test_using_a_model_needs_no_training_package():
    assert not loaded_by("from prevmatch import Segmenter") & {"datasets", "accelerate", "tyro"}


def test_rooms_are_reachable_from_the_package():
    import prevmatch

    assert prevmatch.losses.confidence_weighted
    assert prevmatch.schedule.poly(0, 1, 0.5) == 0.5
    with pytest.raises(AttributeError, match="nonsense"):
        _ = prevmatch.nonsense


def test_version_is_told(monkeypatch, capsys):
    import prevmatch
    from prevmatch.cli import main

    monkeypatch.setattr(sys, "argv", ["prevmatch", "--version"])
    main()
    assert capsys.readouterr().out == f"prevmatch {prevmatch.__version__}\n"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("prevmatch.data.loader", {"accelerate", "timm"}),
        ("prevmatch.methods", {"accelerate", "datasets"}),
        ("prevmatch.models.segmenter", {"accelerate", "datasets"}),
    ],
)
def test_rooms_keep_apart(module, forbidden):
    assert not loaded_by(f"import {module}") & forbidden
