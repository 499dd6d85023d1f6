"""A model from outside as one more guide, frozen: in SemiVL (ECCV 2024) CLIP, which knows the classes by their names.

It takes whatever gives class scores. Its weight falls from that of the settings to 0 over the run (λ of SemiVL, which
has 0.1, and a threshold of 0.9).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from prevmatch.config import SegmenterConfig, TrainConfig
from prevmatch.errors import ConfigError
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.thresholds import reaches
from prevmatch.models.clip import load_clip
from prevmatch.models.saved import CONFIG_FILE, best_of_run, find_folder
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.state import TrainState

Scores = Callable[[Tensor], Tensor]
"""RGB images (B, 3, H, W) in [0, 255] → class scores (B, C, h, w) of any resolution, logits of a softmax."""


def outside(config: TrainConfig, versions: Versions) -> Guide:
    """The model that the settings name labels."""
    return Outside(
        name="outside", accepts=partial(reaches, config.outside_threshold), weight=config.outside_weight,
        first=config.outside_weight, epochs=config.epochs, versions=versions, scores=scores_of(config, versions),
    )  # fmt: skip


@dataclass(kw_only=True)
class Outside(Guide):
    """Any module that gives class scores."""

    versions: Versions
    scores: Scores
    first: float
    """Its weight in the first epoch."""
    epochs: int

    def begin(self, state: TrainState) -> None:
        """Set λ."""
        self.weight = self.first * (1 - state.epoch / self.epochs)

    def label(self, images: Tensor) -> Tensor:
        """The module's scores; images are normalised for the first student, it gets them as they were."""
        network = (*self.versions.students, self.versions)[0].network
        with torch.no_grad(), self.versions.frozen.context():
            return self.scores(255 * (images * network.pixel_std + network.pixel_mean))


def scores_of(config: TrainConfig, versions: Versions) -> Scores:
    """The model of that name, on the student's device: a CLIP, or a Segmenter's folder, run or repository.

    Raises ConfigError for one of other classes.
    """
    assert config.outside_model is not None
    name, own = best_of_run(config.outside_model), versions.network.config
    folder = find_folder(name)
    if _is_clip(folder):
        clip = load_clip(name, class_texts(config.outside_texts, own)).to(versions.network.device)
        return clip
    model = Segmenter.from_pretrained(folder, device=versions.network.device).requires_grad_(False)
    other = model.config
    if (other.num_classes, other.class_names or own.class_names) != (own.num_classes, own.class_names):
        raise ConfigError(
            f"outside_model {name} knows {_list_of(other)}, the data has {_list_of(own)}; choose another"
        )
    return lambda images: model(model.normalize(images), enlarged=False)


def class_texts(file: str | None, own: SegmenterConfig) -> list[list[str]]:
    """What means each class: its name, or what a file has in its line, separated by commas.

    Raises ConfigError where the classes have no names, or the file has not one line for each.
    """
    lines: Sequence[str] = own.class_names
    if file is not None:
        try:
            lines = Path(file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"outside_texts {file} cannot be read ({error})") from error
    texts = [[text for text in map(str.strip, line.split(",")) if text] for line in lines]
    if len(texts) != own.num_classes or not all(texts):
        raise ConfigError(
            f"outside_texts has {sum(map(bool, texts))} lines that say something but there are {own.num_classes} "
            "classes; give a file with a line for each, texts that mean it separated by commas"
        )
    return texts


def _is_clip(folder: Path) -> bool:
    try:
        return json.loads((folder / CONFIG_FILE).read_text()).get("model_type") == "clip"
    except (OSError, ValueError, AttributeError):  # a Segmenter's loader says what is wrong
        return False


def _list_of(config: SegmenterConfig) -> str:
    names = ", ".join(config.class_names[:3])
    return f"{config.num_classes} classes" + (f" ({names} …)" if names else "")
