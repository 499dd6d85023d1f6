"""Where the golden vectors are, and the networks they were computed with."""

import json
import os
import zlib
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from prevmatch.models.segmenter import Segmenter

SMALL = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared" / "golden"


def full_folder() -> Path:
    """The complete set; skips the test where it is not there."""
    given = os.environ.get("PREVMATCH_GOLDEN")
    folder = Path(given) if given else SHARED
    if not folder.is_dir():
        pytest.skip(f"full golden vectors are not in {folder}; name their folder in PREVMATCH_GOLDEN")
    return folder


def fill_weights(shapes: dict[str, list[int]], bn_gain: float, classifier_gain: float) -> dict[str, torch.Tensor]:
    """Weights by the golden set's rule: pseudo-random from each tensor's name, scaled by its role."""
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith("running_mean"):
            value = 0.1 * z
        elif name.endswith("running_var"):
            value = 1 + 0.1 * np.abs(z)
        elif len(shape) == 4:
            value = z * np.sqrt(2 / np.prod(shape[1:])) * (classifier_gain if name == "classifier.weight" else 1)
        elif name.endswith("weight"):
            value = bn_gain * (1 + 0.1 * z)
        else:
            value = 0.1 * z
        state[name] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return state


@cache
def golden_state(folder: Path, backbone: str, num_classes: int | None) -> dict[str, torch.Tensor]:
    """The golden weights of a network under the released names; nobody changes them."""
    shapes = json.loads((folder / f"{backbone}_keys.json").read_text())
    if num_classes is not None:
        shapes["classifier.weight"][0] = shapes["classifier.bias"][0] = num_classes
    with np.load(folder / f"{backbone}_eval.npz") as file:
        return fill_weights(shapes, float(file["bn_gain"]), float(file["classifier_gain"]))


def released_file(
    folder: Path, backbone: str, tmp_path: Path, *, num_classes: int | None = None, prefix: str = ""
) -> Path:
    """Write a checkpoint as released, with the golden weights."""
    state = golden_state(folder, backbone, num_classes)
    path = tmp_path / f"{backbone}.pth"
    torch.save({"model": {prefix + name: tensor for name, tensor in state.items()}}, path)
    return path


@lru_cache(maxsize=1)
def published_network(folder: Path, backbone: str, num_classes: int | None = None) -> Segmenter:
    """The same loaded through `Segmenter.from_published`, from names with the prefix of a wrapped network; nobody
    changes it."""
    classes = num_classes or json.loads((folder / f"{backbone}_keys.json").read_text())["classifier.bias"][0]
    with TemporaryDirectory() as place:
        path = released_file(folder, backbone, Path(place), num_classes=num_classes, prefix="module.")
        return Segmenter.from_published(path, backbone=backbone, num_classes=classes)
