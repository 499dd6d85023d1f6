"""What every data set becomes: tables of id, image and mask, and what the ids mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Literal

import datasets
import numpy as np

from prevmatch.data.cells import open_cell

RGB = tuple[int, int, int]

FEATURES = datasets.Features(
    # Pixels are decoded by `reading`; `decode=False` keeps cells as {"bytes", "path"}. Instead of an image file the
    # bytes of a mask may be an annotation of `data.instances`.
    {"id": datasets.Value("string"), "image": datasets.Image(decode=False), "mask": datasets.Image(decode=False)}
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set: its training and validation images, and what the class ids mean."""

    train: datasets.Dataset
    """Columns id, image, mask; a mask may be None where the image is unlabelled."""
    val: datasets.Dataset
    """The same columns; every mask is there."""
    class_names: tuple[str, ...]
    palette: tuple[RGB, ...]
    """One colour per class."""
    label_map: tuple[int, ...] | None = None
    """Class id for each of the 256 values in the mask files; None where the files already hold class ids."""
    merged: tuple[int, ...] | None = None
    """Class id for each class that the masks name, where some were merged or are ignored (255)."""
    colours: tuple[tuple[RGB, int], ...] = ()
    """Class id of each colour, where the masks are pictures in colours."""
    grey_colours: bool = False
    """Whether grey masks are read by those colours too, instead of as ids."""
    colour_distance: int = 0
    """A colour that is no class's is the nearest one's if no channel differs by more."""
    blurred: bool = False
    """Whether mask files may be such as do not keep values exactly (JPEG)."""
    orientation: Literal["by_size", "upright", "stored"] = "by_size"
    """How photos with an EXIF orientation lie over their masks; `by_size` is upright unless only stored fits."""
    bits: int | None = None
    """Bits that photos in 16-bit files use; None finds them photo by photo."""
    pixels: Mapping[str, np.ndarray] | None = None
    """For the id of each image with a mask its pixels of each class and, last, its ignored ones; None: not counted."""
    scenes: Mapping[str, int] | None = None
    """For the id of each image with a mask which scene it shows; None: not looked for."""
    mean_of_occurring: bool = False
    """Whether the mIoU is the mean over the classes that occur in the validation masks; published data sets count the
    others as 0."""
    notes: tuple[str, ...] = ()
    """What a user should know about how the data was read, one line each."""

    @property
    def num_classes(self) -> int:
        """Number of classes, without the ignored label."""
        return len(self.class_names)

    @property
    def absent_score(self) -> float:
        """The IoU of a class that does not occur in the validation masks; NaN does not count."""
        return math.nan if self.mean_of_occurring else 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A source divided for a semi-supervised run, or for a supervised one."""

    source: Source
    labelled: datasets.Dataset
    unlabelled: datasets.Dataset
    """Empty where every image is labelled."""

    @property
    def epoch_rows(self) -> datasets.Dataset:
        """The images that an epoch passes over once: the unlabelled ones, or the labelled ones where all are."""
        return self.unlabelled if len(self.unlabelled) else self.labelled

    @cached_property
    def median_size(self) -> tuple[int, int]:
        """Median width and height of the images that an epoch passes over, from at most 100 of them."""
        rows = self.epoch_rows.select_columns(["id", "image"])
        chosen = np.linspace(0, len(rows) - 1, min(100, len(rows))).astype(int)
        sizes = [open_cell(rows[int(i)], "image", header_only=True).size for i in chosen]
        return int(median(w for w, _ in sizes)), int(median(h for _, h in sizes))

    @property
    def val(self) -> datasets.Dataset:
        """The validation images."""
        return self.source.val


def table(ids: Sequence[str], images: Sequence[dict], masks: Sequence[dict | None]) -> datasets.Dataset:
    """Build a Dataset of id, image, mask from {"bytes", "path"} cells."""
    return datasets.Dataset.from_dict({"id": list(ids), "image": list(images), "mask": list(masks)}, features=FEATURES)


def file_cell(path: Path) -> dict:
    """The cell of an image or mask file."""
    return {"path": str(path), "bytes": None}
