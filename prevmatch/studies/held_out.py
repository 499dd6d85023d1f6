"""What a run's networks say of masks that they never saw: how good their pseudo-labels are, and which masks to doubt.

One pass over the held-out images of a run, or of each fold of one, with the networks that its last checkpoint keeps:
the student, its moving average (the EMA teacher) and the earlier versions together, as they are when they guide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from prevmatch.config import IGNORE_INDEX, TrainConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_pair
from prevmatch.data.sources import RGB, Source
from prevmatch.errors import DataError
from prevmatch.evaluate import class_scores
from prevmatch.models.encoder import patch_size
from prevmatch.models.frozen import tensors_of
from prevmatch.models.segmenter import Segmenter
from prevmatch.progress import progress
from prevmatch.run.checkpoint import join, newest, read_state
from prevmatch.run.results import settings_of

BINS = 100
"""Of confidence, each a hundredth wide."""


@dataclass
class Said:
    """How often what was said of which class, how confidently, by a guide or of an image."""

    counts: np.ndarray
    """int64, of a single image int32 (BINS, C, C): confidence, true class, class said."""

    def reaching(self, threshold: float) -> np.ndarray:
        """The confusion matrix int64 (C, C) of the pixels whose confidence reaches a threshold, rounded to bins."""
        return self.counts[_bin(threshold) :].sum(0)


@dataclass
class HeldOut:
    """All held-out images of a run."""

    class_names: tuple[str, ...]
    palette: tuple[RGB, ...]
    guides: dict[str, Said] = field(default_factory=dict)
    """By who says it: `student`, `teacher`, `previous`."""
    images: dict[str, Said] = field(default_factory=dict)
    """By the id of an image: what the network that is scored says of it."""
    certain: np.ndarray = field(default_factory=lambda: np.zeros((2, 0)))
    """Of each class the sum of its probability over its pixels, and their number: float64 (2, C)."""
    run_of: dict[str, Path] = field(default_factory=dict)
    """The run that held an image out."""


class Versions(NamedTuple):
    """The networks of a run, in eval mode."""

    student: Segmenter
    teacher: Segmenter | None
    previous: list[Segmenter]
    """Oldest first."""


def parts_of(run: Path) -> list[Path]:
    """The folds of a final model, or the run itself where it is no such."""
    settings = settings_of(run)
    return [run / f"fold_{k}" for k in range(1, settings.folds + 1)] if settings.fold == 0 else [run]


def versions_of(run: Path, device: torch.device) -> Versions:
    """The networks in the newest whole checkpoint of a run; DataError where there is none."""
    folder = newest(run / "checkpoints", print)
    if folder is None:
        raise DataError(f"{run} has no checkpoint, in which its earlier versions would be; train it again")
    student = Segmenter.from_pretrained(folder / "model", device=device)
    average = folder / "average"
    teacher = Segmenter.from_pretrained(average, device=device) if average.is_dir() else None
    kept: list[Segmenter] = []
    if (bank := folder / "previous.safetensors").is_file():
        for tensors in join(read_state(folder)["memory"]["previous"], load_file(bank))["models"]:
            version = Segmenter(student.config).to(device).eval()
            for name, tensor in tensors_of(version).items():
                tensor.copy_(tensors[name])
            kept.append(version)
    return Versions(student, teacher, kept)


def held_out(run: Path) -> HeldOut:
    """Look at every held-out image of a run once; raises DataError where it is not finished, or keeps no networks."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: HeldOut | None = None
    for part in parts_of(run):
        config = settings_of(part)
        data = load_training_data(config)
        classes = data.source.num_classes
        found = found or HeldOut(data.source.class_names, data.source.palette, certain=np.zeros((2, classes)))
        versions = versions_of(part, device)
        scored = Segmenter.from_pretrained(part / "best", device=device)
        who = {"student": [versions.student], "teacher": [versions.teacher] if versions.teacher else []}
        who["previous"] = versions.previous
        for row, mask, image in _images(data.source, config, device):
            own = probabilities([scored], image, config)
            _note(found.images.setdefault(row["id"], _nothing(classes, np.int32)), own, mask)
            found.run_of[row["id"]] = part
            known = mask != IGNORE_INDEX
            sure = own.gather(0, torch.from_numpy(mask.astype(np.int64) * known)[None].to(device))[0].cpu().numpy()
            np.add.at(found.certain, (0, mask[known]), sure[known])
            np.add.at(found.certain, (1, mask[known]), 1)
            for name, networks in who.items():
                if networks:
                    said = found.guides.setdefault(name, _nothing(classes))
                    _note(said, probabilities(networks, image, config), mask)
    assert found is not None
    return found


@torch.no_grad()
def probabilities(networks: Sequence[Segmenter], image: Tensor, config: TrainConfig) -> Tensor:
    """What networks say together of an image uint8 (1, 3, H, W): float32 (C, H, W), the softmax of their mean logits,
    or over sliding windows the mean of their probabilities."""
    inside = patch_size(config.encoder) > 1
    found = [class_scores(n, n.normalize(image), config.eval_window, inside=inside)[0].float() for n in networks]
    mean = torch.stack(found).mean(0)
    return mean.softmax(0) if config.eval_window is None else mean / mean.sum(0)


def _images(source: Source, config: TrainConfig, device: torch.device) -> Iterator[tuple[dict, np.ndarray, Tensor]]:
    for row in progress(source.val, desc="held-out images", unit="image", leave=False):
        image, mask = read_pair(row, source, config.image_size)
        yield row, np.array(mask), torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(device)


def _nothing(classes: int, dtype: type[np.integer] = np.int64) -> Said:
    return Said(np.zeros((BINS, classes, classes), dtype=dtype))


def _note(said: Said, probabilities: Tensor, mask: np.ndarray) -> None:
    confidence, ids = (t.cpu().numpy() for t in probabilities.max(dim=0))
    known = mask != IGNORE_INDEX
    places = (confidence[known] * BINS).astype(np.int64).clip(max=BINS - 1), mask[known].astype(np.int64), ids[known]
    counts = np.bincount(np.ravel_multi_index(places, said.counts.shape), minlength=said.counts.size)
    said.counts += counts.reshape(said.counts.shape).astype(said.counts.dtype)


def _bin(threshold: float) -> int:
    return min(BINS - 1, round(threshold * BINS))
