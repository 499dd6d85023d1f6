"""What importing the package costs and offers."""

import subprocess
import sys

import pytest


def loaded_by(*statements):
    """What each of the statements, one after the other, has imported by its end."""
    shown = "print(*{name.partition('.')[0] for name in sys.modules})"
    code = "\n".join(["import sys", *(f"{statement}\n{shown}" for statement in statements)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_settings_need_no_torch():
    assert not loaded_by("from prevmatch import TrainConfig")[0] & {"torch", "timm", "datasets", "accelerate"}


def test_neither_models_nor_methods_need_training_or_data():
    model, method = loaded_by("from prevmatch import Segmenter", "import prevmatch.methods")
    assert "timm" in model
    assert not model & {"datasets", "accelerate", "tyro"}
    assert not method & {"datasets", "accelerate"}


def test_data_needs_neither_models_nor_training():
    data = loaded_by("import prevmatch.data.loader")[0]
    assert "datasets" in data
    assert not data & {"accelerate", "timm"}


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
