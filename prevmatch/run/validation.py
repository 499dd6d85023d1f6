"""What each validation image came to at each evaluation: confusion matrices in small files beside the run."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from prevmatch.data.sources import Source
from prevmatch.errors import DataError
from prevmatch.run.state import TrainState
from prevmatch.writing import write_bytes

FOLDER = "validation"
POOLED = "folds.npz"
"""The file, in the folder of the final model, of what the folds said of all masks."""
SUMMARY = "folds.json"
"""The file of what that comes to."""
MOST_CELLS = 2**22
"""Cells of the matrices of an evaluation that are kept; with more images and classes no interval is needed."""


@dataclass(frozen=True)
class Validation:
    """Images and what was said of each."""

    ids: tuple[str, ...]
    confusions: np.ndarray
    """int64 (N, C, C); rows true, columns said."""
    units: np.ndarray
    """int64 (N): images with the same number show one scene."""


def keep_validation(
    each: Sequence[Tensor], state: TrainState, source: Source, accelerator: Accelerator, run: Path
) -> None:
    """Write the matrices (C, C) of this process's validation images, every P-th of all, together with the others'.

    Called by all processes after the evaluation was recorded. A file that cannot be written is told and ends no run.
    """
    ids = source.val["id"][:]
    if not ids or not is_kept(len(ids), source.num_classes):
        return
    parts = gather_object([np.stack([m.cpu().numpy() for m in each]) if each else None])
    if not accelerator.is_main_process:
        return
    confusions = np.zeros((len(ids), source.num_classes, source.num_classes), dtype=np.int64)
    for rank, part in enumerate(parts):
        if part is not None:
            confusions[rank :: len(parts)] = part
    path = file_of(run, state.epoch)
    units = range(len(ids)) if source.scenes is None else [source.scenes[name] for name in ids]
    try:
        write_validation(path, Validation(tuple(ids), confusions, np.array(units)))
    except OSError as error:
        tqdm.write(f"WARNING: {path} could not be written ({error.strerror}); training goes on")


def is_kept(images: int, classes: int) -> bool:
    """Whether the matrices of an evaluation are kept, image by image."""
    return images * classes**2 <= MOST_CELLS


def file_of(run: Path, epochs: int) -> Path:
    """The file of the evaluation after so many epochs."""
    return run / FOLDER / f"epoch_{epochs:04d}.npz"


def evaluations(run: Path) -> dict[int, Path]:
    """The files that a run has, by the epochs after which it was evaluated."""
    return {int(path.stem[6:]): path for path in sorted((run / FOLDER).glob("epoch_*.npz"))}


def write_validation(path: Path, validation: Validation) -> None:
    """Write a file in one move; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez_compressed(
        content, ids=np.array(validation.ids), confusions=validation.confusions, units=validation.units
    )
    write_bytes(path, content.getvalue())


def read_validation(path: Path) -> Validation:
    """Read a file; DataError if it is missing or damaged. Nothing in it is a pickle, and none would be read."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return Validation(tuple(content["ids"].tolist()), content["confusions"], content["units"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is missing or damaged ({type(error).__name__}); evaluate or train the run again"
        ) from error
