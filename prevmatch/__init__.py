"""PrevMatch: semi-supervised semantic segmentation guided by a network's own earlier versions (arXiv 2405.20610)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prevmatch.config import TrainConfig as TrainConfig
    from prevmatch.loop import train as train
    from prevmatch.models.segmenter import Segmenter as Segmenter
    from prevmatch.run.results import TrainResult as TrainResult

__version__ = "0.1.0"
__all__ = ["Segmenter", "TrainConfig", "TrainResult", "train"]

# Resolved on first use, so that `--help` needs no torch and a user of `Segmenter` needs no training package.
_HOMES = {
    "Segmenter": "prevmatch.models.segmenter",
    "TrainConfig": "prevmatch.config",
    "TrainResult": "prevmatch.run.results",
    "train": "prevmatch.loop",
}
_MODULES = ("bank", "config", "evaluate", "guides", "losses", "methods", "metrics", "mixing", "schedule", "views")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"prevmatch.{name}")
    raise AttributeError(f"module 'prevmatch' has no attribute {name!r}")
