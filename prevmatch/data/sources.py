"""What every data source gives: tables of id, image and mask, the meaning of the ids, and how a row becomes pixels."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from prevmatch.config import IGNORE_INDEX, TrainConfig
from prevmatch.data.splits import every_nth, select
from prevmatch.errors import ConfigError, DataError

FEATURES = datasets.Features(
    # Pixels are decoded by `read_image` and `read_mask`; `decode=False` keeps rows as {"bytes", "path"}.
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
    palette: tuple[tuple[int, int, int], ...]
    """One RGB colour per class."""
    label_map: tuple[int, ...] | None = None
    """Class id for each of the 256 values in the mask files; None where the files already hold class ids."""

    @property
    def num_classes(self) -> int:
        """Number of classes, without the ignored label."""
        return len(self.class_names)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A source divided for a semi-supervised run."""

    source: Source
    labelled: datasets.Dataset
    unlabelled: datasets.Dataset

    @property
    def val(self) -> datasets.Dataset:
        """The validation images."""
        return self.source.val


def load_training_data(config: TrainConfig) -> TrainingData:
    """Load the source that the settings name and divide it by their split."""
    match config.dataset:
        case "camvid":
            from prevmatch.data.camvid import load_camvid

            if config.data_dir is None:
                raise ConfigError("camvid needs --data_dir FOLDER, the folder that holds its train and val images")
            source = load_camvid(config.data_dir)
        case "shapes":
            from prevmatch.data.shapes import load_shapes

            source = load_shapes()
        case _:
            raise ConfigError("dataset is not set; name one, or hand the data to train() directly")
    labelled_ids = every_nth(source.train["id"], config.split)
    labelled, unlabelled = select(source.train, labelled_ids)
    return TrainingData(source=source, labelled=labelled, unlabelled=unlabelled)


def table(ids: Sequence[str], images: Sequence[dict], masks: Sequence[dict | None]) -> datasets.Dataset:
    """Build a Dataset of id, image, mask from {"bytes", "path"} cells."""
    return datasets.Dataset.from_dict({"id": list(ids), "image": list(images), "mask": list(masks)}, features=FEATURES)


def read_image(row: dict, image_size: int | None = None) -> Image.Image:
    """Decode the image of a row as RGB, its long side brought to `image_size`.

    Raises DataError naming the file and id if it is missing or cannot be decoded.
    """
    image = _open(row, "image").convert("RGB")
    return image if image_size is None else image.resize(_fit(image.size, image_size), Image.Resampling.BILINEAR)


def read_mask(row: dict, source: Source) -> Image.Image:
    """Decode the mask of a row as class ids, mode L, 255 = ignored.

    Raises DataError naming the file and id if it is missing, cannot be decoded, has several channels, or holds an id
    that is no class.
    """
    mask = _open(row, "mask")
    if mask.mode not in ("L", "P", "1", "I;16", "I"):
        raise DataError(
            f"{_where(row, 'mask')} has colour mode {mask.mode}, but a mask holds one class id per pixel; "
            "convert its colours to ids"
        )
    ids = np.asarray(mask)  # of a palette image these are the indices; convert("L") would give luminances
    if ids.dtype != np.uint8:
        if ids.max(initial=0) > 255:
            raise DataError(f"{_where(row, 'mask')} holds the value {ids.max()}, but class ids end at 255")
        ids = ids.astype(np.uint8)
    if source.label_map is not None:
        ids = np.array(source.label_map, dtype=np.uint8)[ids]
    wrong = ids[(ids >= source.num_classes) & (ids != IGNORE_INDEX)]
    if wrong.size:
        raise DataError(
            f"{_where(row, 'mask')} holds class id {wrong.max()}, but there are {source.num_classes} classes "
            f"(0..{source.num_classes - 1}, 255 = ignored); correct the mask or the class count"
        )
    return Image.fromarray(ids)


def read_pair(row: dict, source: Source, image_size: int | None = None) -> tuple[Image.Image, Image.Image]:
    """Decode image and mask of a row; DataError if their sizes differ."""
    image, mask = read_image(row), read_mask(row, source)
    if image.size != mask.size:
        raise DataError(
            f"{_where(row, 'mask')} is {mask.width}×{mask.height} but its image {_where(row, 'image')} is "
            f"{image.width}×{image.height}; they must be the same size"
        )
    if image_size is None:
        return image, mask
    size = _fit(image.size, image_size)
    return image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)


def _open(row: dict, column: str) -> Image.Image:
    cell = row[column]
    if cell is None:
        raise DataError(f"image {row['id']!r} has no {column}, but it is listed as labelled")
    try:
        image = Image.open(cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"]))
        image.load()
    except FileNotFoundError:
        raise DataError(f"{_where(row, column)} is missing; restore it or remove it from the lists") from None
    except Exception as error:
        raise DataError(
            f"{_where(row, column)} cannot be read as an image ({type(error).__name__}); replace the file"
        ) from None
    return image


def _where(row: dict, column: str) -> str:
    path = row[column]["path"]
    return f"{Path(path)} (id {row['id']!r})" if path else f"the {column} of id {row['id']!r}"


def _fit(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    scale = long_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
